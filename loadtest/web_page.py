"""What a storm adds to Locust's page: a tab with the verdict, live and at the end, and `/metrics` for Prometheus."""

from flask import Response, request
from locust.web import WebUI

from loadtest import exporter, figures
from loadtest.run import Run

_KEY = "verdict"


def extend(page: WebUI, run: Run) -> None:
    """Have the page show this run."""
    app = page.app
    assert app is not None
    page.template_args["extended_tabs"] = [{"title": "Verdict", "key": _KEY}]
    page.template_args["extended_tables"] = [{"key": _KEY, "structure": figures.COLUMNS}]
    registry = exporter.registry_of(run)

    def metrics() -> Response:
        return Response(exporter.text(registry), content_type=exporter.CONTENT_TYPE)

    def with_verdict(response: Response) -> Response:
        if request.path.endswith("/stats/requests") and response.is_json:
            rows = figures.table_of(run.board, run.result)
            response.set_data(app.json.dumps({**(response.json or {}), "extended_stats": [{"key": _KEY, "data": rows}]}))
        return response

    app.add_url_rule("/metrics", view_func=metrics)
    app.after_request(with_verdict)
