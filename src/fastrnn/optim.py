"""Optimisers and gradient clipping: ``fr.optim.Adam(model, lr=1e-3)``.

Examples
--------
>>> import fastrnn as fr
>>> layer = fr.Linear(3, 2, seed=0)
>>> opt = fr.optim.SGD(layer, lr=0.1, momentum=0.9, groups={"bias": {"weight_decay": 0.0}})
>>> norm = fr.optim.clip_grad_norm(layer, 1.0)
>>> opt.step()
"""

from fastrnn.train.clipping import clip_grad_norm, clip_grad_value
from fastrnn.train.optim import SGD, Adam, AdamW, Optimizer, RMSprop

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "clip_grad_norm", "clip_grad_value"]
