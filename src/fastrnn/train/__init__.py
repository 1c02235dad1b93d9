"""Training: optimisers, schedules, batches, the loop, checkpoints."""

from fastrnn.train import schedules
from fastrnn.train.array_data import ArrayBatches
from fastrnn.train.checkpoint import Checkpoint
from fastrnn.train.clipping import clip_grad_norm, clip_grad_value
from fastrnn.train.data import Batch, SequenceBatches, TokenWindows
from fastrnn.train.dialogue_data import DialogueBatches, Dialogues
from fastrnn.train.distributed import Distributed, DistributedError
from fastrnn.train.fit import fit
from fastrnn.train.history import History
from fastrnn.train.interrupt import Interrupted
from fastrnn.train.online import online
from fastrnn.train.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from fastrnn.train.pair_data import PairBatches
from fastrnn.train.progress import Progress
from fastrnn.train.tree_data import TreeBatches

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "ArrayBatches",
    "Batch",
    "Checkpoint",
    "DialogueBatches",
    "Dialogues",
    "Distributed",
    "DistributedError",
    "History",
    "Interrupted",
    "Optimizer",
    "PairBatches",
    "Progress",
    "RMSprop",
    "SequenceBatches",
    "TokenWindows",
    "TreeBatches",
    "clip_grad_norm",
    "clip_grad_value",
    "fit",
    "online",
    "schedules",
]
