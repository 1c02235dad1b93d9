"""Names in code type lead to the reference: `fr.LSTM`, `F.gru`, `Model` in a page or a docstring."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

if TYPE_CHECKING:
    from sphinx.application import Sphinx

NAME = re.compile(r"(?:(fr|fastrnn|F)\.)?([A-Za-z_]\w*(?:\.\w+)*)(?:\(.*\))?", re.DOTALL)
BEFORE = {"fr": "fastrnn.", "fastrnn": "fastrnn.", "F": "fastrnn.functional."}
# where a class spoken of by its name alone may be
CLASSES = ("fastrnn.", "fastrnn.models.", "fastrnn.nn.", "fastrnn.optim.", "fastrnn.text.")
INSIDE = (nodes.reference, nodes.title, nodes.literal_block)


class Links(SphinxPostTransform):
    """Turns literals that name something public into links."""

    default_priority = 700

    def run(self, **kwargs: object) -> None:
        """Go through the page."""
        for node in list(self.document.findall(nodes.literal)):
            if not any(isinstance(parent, INSIDE) for parent in parents(node)):
                self.link(node)

    def link(self, node: nodes.literal) -> None:
        """Put a reference around one literal, if its name is known and has another page than this one."""
        objects = self.env.domaindata["py"]["objects"]
        for name in candidates(node.astext()):
            found = objects.get(name)
            if found is not None:
                if found.docname != self.env.current_document.docname:
                    docname = self.env.current_document.docname
                    to = make_refnode(self.app.builder, docname, found.docname, found.node_id, node.deepcopy(), name)
                    node.replace_self(to)
                return


def parents(node: nodes.Node) -> list[nodes.Node]:
    """All that a node is in."""
    above = []
    while node.parent is not None:
        node = node.parent
        above.append(node)
    return above


def candidates(text: str) -> list[str]:
    """Full names that a piece of code may stand for."""
    found = NAME.fullmatch(text)
    if not found:
        return []
    start, rest = found.groups()
    if start:
        return [BEFORE[start] + rest]
    if rest.startswith(("models.", "nn.", "losses.", "optim.", "train.", "functional.", "schedules.", "ops.", "init.")):
        return ["fastrnn." + rest]
    return [before + rest for before in CLASSES] if (rest[0].isupper() and not rest.isupper()) or rest in SHORT else []


SHORT = {"LSTM", "GRU", "RNN", "SRU", "QRNN", "LRU", "GELU", "HRED", "VHRED", "VAE", "VQVAE", "SGD"}


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the transform."""
    app.add_post_transform(Links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
