"""x."""


def extend(web: object, run: object) -> None:
    pass
