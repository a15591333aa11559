"""x."""


def serve(run: object, port: int) -> None:
    pass
