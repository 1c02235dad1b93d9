"""The site's settings: `nox -s docs`, or `python -m sphinx -W docs build/site` with the extra `docs` installed.

Pages are Markdown (MyST), docstrings NumPy's; what Sphinx doesn't do by itself is in `_ext/`. The pages ask nothing of
other servers: no fonts, no scripts; equations are MathML, made when the site is built.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

import gallery  # noqa: E402
import interop_page  # noqa: E402

import fastrnn  # noqa: E402

# ---- project

project = "fastrnn"
author = "The fastrnn authors"
copyright = author
version = release = fastrnn.__version__

# ---- sources

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "sphinx_copybutton",
    "sphinx_design",
    "code_links",
    "docstrings",
    "gallery",
    "mathml",
    "speed_figure",
]
exclude_patterns = ["_build", "_ext", "_templates", "sg_execution_times.rst", "*/sg_execution_times.rst"]
templates_path = ["_templates"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
nitpicky = True

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

# ---- the reference, from docstrings

default_role = "code"  # `x` in a docstring is code; code_links makes links of names that have a page
autosummary_generate = True
autosummary_imported_members = True
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # the section Parameters says it, with shapes
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "special-members": "__call__"}
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
interop_page.write(HERE / "api" / "interop.rst")

# ---- examples

sphinx_gallery_conf = gallery.settings(HERE)
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# ---- pages

html_theme = "furo"
html_title = "fastrnn"
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#0b5c6b",
        "color-brand-content": "#0b6477",
        "color-code-background": "#f4f6f7",
    },
    "dark_css_variables": {
        "color-brand-primary": "#5cc3d3",
        "color-brand-content": "#6fcbd9",
        "color-code-background": "#1b2126",
    },
    "sidebar_hide_name": False,
}
pygments_style = "friendly"
pygments_dark_style = "native"
