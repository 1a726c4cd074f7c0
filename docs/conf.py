"""How the documentation is built: `make docs`, without a network, into docs/_build."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from truncated_weights import __version__  # noqa: E402

project = "truncated-weights"
release = version = __version__
copyright = "the authors, Apache-2.0"

extensions = ["myst_nb", "sphinx.ext.autodoc", "extension"]
exclude_patterns = ["_build", "notebooks/*.py", "**/__pycache__"]
myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "docs" / "_build" / "executed")
nb_execution_timeout = 600
nb_execution_raise_on_error = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True}
default_role = "code"
highlight_language = "none"
smartquotes = False

html_theme = "furo"
html_title = f"truncated-weights {version}"
html_copy_source = False
html_show_sphinx = False
