"""Sphinx: `make docs` builds the site into `docs/_build/html`; warnings are errors."""

import os
import sys
from pathlib import Path

import jupytext

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(HERE)]

# a notebook's kernel starts in another folder, and takes this checkout's bayesal
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.getenv("PYTHONPATH")])])

import _reference  # noqa: E402
import test_public  # noqa: E402

import bayesal  # noqa: E402

project = author = copyright = "bayesal"
version = release = bayesal.__version__

# pages that are written before every build: the API from docstrings, and the notebooks
_reference.write(HERE / "api", test_public.modules(), test_public.names())
(HERE / "notebooks").mkdir(exist_ok=True)
for script in sorted((ROOT / "notebooks").glob("*.py")):
    jupytext.write(jupytext.read(script), HERE / "notebooks" / f"{script.stem}.ipynb")

extensions = ["myst_nb"]
exclude_patterns = ["_build"]
html_theme = "sphinx_book_theme"
html_title = "bayesal"
html_extra_path = ["../llms.txt"]
html_theme_options = {"show_toc_level": 2, "home_page_in_toc": True}
html_show_copyright = html_show_sphinx = html_copy_source = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 88

# notebooks run once for each content; a cell that fails ends the build
nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / ".cache" / "notebooks")
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True
