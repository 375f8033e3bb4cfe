"""How Sphinx makes the site: ``make docs``. Nothing is fetched; warnings are errors there."""

import os
import shutil
import sys
from pathlib import Path

from sphinx.application import Sphinx

import cleft

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "cleft"
author = copyright = "The cleft developers"
version = release = cleft.__version__

extensions = [
    "generated",  # docs/_ext: the command line and the settings, from the code itself
    "notebooks",  # docs/_ext: tutorials to download, or to open in Colab
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_design",
]

# Where the source is public, such as "https://github.com/OWNER/cleft", and the branch of the built site.
# With an address, tutorials link to Colab and install cleft from there; without, they name none.
cleft_repository = ""
cleft_site_branch = "gh-pages"

exclude_patterns = ["_build", "_ext", "results"]
source_suffix = {".md": "myst-nb"}

linkcheck_ignore = [r"http://localhost"]  # `make links`
linkcheck_timeout = 20

autosummary_generate = False
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

# Tutorials run when the site is built, unless CLEFT_DOCS_RUN=0; what has run is kept and not run again.
nb_execution_mode = "off" if os.environ.get("CLEFT_DOCS_RUN") == "0" else "cache"
if nb_execution_mode == "off":  # only a kernel says that its cells are IPython's
    suppress_warnings = ["misc.highlighting_failure"]
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True
nb_output_stderr = "remove"  # progress bars

html_theme = "pydata_sphinx_theme"
html_title = "cleft"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navbar_align": "left",
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
}

PAGE = Path(cleft.__file__).parent / "web" / "site"  # what `make web` makes; without it the site has no try/


def _with_the_page(app: Sphinx, error: Exception | None) -> None:
    """The page that finds cells in a browser becomes a folder of the site."""
    if error is None and (PAGE / "index.html").exists():
        shutil.copytree(PAGE, Path(app.outdir) / "try", dirs_exist_ok=True)


def setup(app: Sphinx) -> None:
    app.connect("build-finished", _with_the_page)
