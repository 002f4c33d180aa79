"""The service: people label in a browser, and the net learns from their answers meanwhile.

JSON over HTTP, a labeling page and a progress page. A bearer token names the annotator; there are
no cookies, nothing is fetched, and files come from the campaign's `root` alone. Needs Starlette and
uvicorn (extra `serve`).
"""

from bayesal import _checks

with (
    _checks.installed("starlette", "bayesal[serve]"),
    _checks.installed("uvicorn", "bayesal[serve]"),
    _checks.installed("sqlalchemy", "bayesal[serve]"),
):
    from bayesal.service._app import app
    from bayesal.service._serve import serve

__all__ = ["app", "serve"]


def __dir__() -> list[str]:
    return __all__
