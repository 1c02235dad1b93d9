"""The training loop."""

from __future__ import annotations

import os
from typing import Any

from fastrnn.train.arguments import check_data, check_limits, check_model, check_numbers, check_validation
from fastrnn.train.checkpoint import Checkpoint
from fastrnn.train.history import History
from fastrnn.train.objective import Objective
from fastrnn.train.optim import Adam, Optimizer
from fastrnn.train.progress import Progress
from fastrnn.train.run import Limits, Run
from fastrnn.train.schedules import Schedule

__all__ = ["fit"]


def fit(
    model: Any,
    data: Any,
    loss: Any = None,
    optimizer: Optimizer | None = None,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    validation: Any = None,
    validate_every: int | None = None,
    schedule: Schedule | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    early_stopping: int | None = None,
    carry_state: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 30.0,
    resume: bool = False,
    seed: int | None = 0,
    progress: bool | Progress = True,
    comm: Any = None,
) -> History:
    """Train a model.

    Parameters
    ----------
    model : Layer
        Trained in place.
    data : iterable
        Yields ``fr.Batch(x, target, lengths=None, weight=None)`` or such tuples; it is iterated once an
        epoch. Arrays are time-major, unless the model's layers are ``batch_first``.
    loss : callable, optional
        In one of two forms; by default ``model.loss``, which is of the second.

        ``loss(outputs, target) -> (loss, gradient of outputs)``, such as ``fr.losses.cross_entropy``.
        `outputs` is what the model returns, without the state of a recurrent one. A batch's `weight` is
        handed on as keyword (one number a row, [B], in a shape that broadcasts along the rows of the target),
        and so are its `lengths` if the target runs along time like `x`, with ``batch_first=True`` if layers of
        the model are so.

        ``loss(model, batch) -> loss`` or ``-> (loss, state)``, recognised by its first parameter being named
        `model`. It adds the gradients to ``model.grads`` itself (``vjp``, then the pullback). With an `fr.Model`
        it may call the model instead and return what it computes from that, as for `fr.value_and_grad`; the
        gradients then follow from the loss. It gets those of these keywords that it has: ``seed`` (int, for
        dropout), ``state`` (with `carry_state`; None at an epoch's begin), ``train`` (False in validation: no
        gradients, no dropout).
    optimizer : Optimizer, optional
        ``fr.optim.Adam(model)`` by default.
    epochs, steps, minutes : optional
        Limits of the whole run, what was done before a resume included. At least one; the first one reached
        counts.
    validation : iterable, optional
        As `data`. Evaluated after each epoch and at the end.
    validate_every : int, optional
        Evaluate each so many steps, too.
    schedule : Schedule, optional
        See `fastrnn.train.schedules`. It sees the share of the run that is over: with `minutes` that is
        elapsed time over the budget.
    clip_norm, clip_value : float, optional
        See `fr.optim.clip_grad_norm`, `fr.optim.clip_grad_value`.
    early_stopping : int, optional
        Stop after so many validations in a row without improvement. At the end the weights of the best
        validation are put back, whatever ended the run.
    carry_state : bool
        Hand the state after a batch to the next (truncated backpropagation through time, see
        `fr.TokenWindows`); each epoch begins with None.
    checkpoint : path, optional
        Folder for checkpoints: saved every `checkpoint_seconds`, at the end, and on Ctrl-C.
    checkpoint_seconds : float
        Seconds between them.
    resume : bool
        Go on from the checkpoint, if there is one. Without it a folder that has one is an error.
    seed : int, optional
        For dropout. None draws a fresh one.
    progress : bool or Progress
        A live line on standard error.
    comm : mpi4py.MPI.Comm or Distributed, optional
        Train with several processes, which all make this call (``mpiexec -n 4 python script.py``): each takes its rows
        of every batch, and all take the same steps. `fr.train.Distributed` adds options. See the notes.

    Returns
    -------
    History

    Raises
    ------
    Interrupted
        A KeyboardInterrupt: Ctrl-C was pressed; the current step was finished and a checkpoint saved. A
        second Ctrl-C stops at once.
    FloatingPointError
        The gradient was not finite in ten steps in a row. Such a step is skipped, with a RuntimeWarning for
        the first; the weights stay as they were.
    ValueError
        `optimizer` was made for another model, or the checkpoint doesn't fit; nothing is changed then.
    FileExistsError
        There is a checkpoint, and `resume` is False.
    DistributedError
        With `comm`: the processes have other weights, data or arguments; the message names them.

    Notes
    -----
    A run that is killed at any moment and resumed gives bitwise the result of one that never was, if its
    limits are steps or epochs, and `data` is a sequence or has ``state_dict`` and ``load_state_dict`` as
    `SequenceBatches` and `TokenWindows` have. From any other iterable the batches done in the epoch are read
    and passed over.

    With `comm` the gradient of a step is the mean over the whole batch, as of one process: each rank's mean is weighed
    by what its loss divided by (see `fr.losses`; for other losses the number of rows, or of steps where the target runs
    along time, unless they call ``fr.losses.divided_by``). So results are those of one process to rounding, except for
    what is drawn: rank 0 draws dropout with the step's seed, the others with seeds made from it. Rank 0's weights are
    where all begin. Validation is shared out like training. Rank 0 alone shows progress, writes checkpoints (a run can
    be resumed with another number of processes, or by one) and has the clock for `minutes`. SIGINT or SIGTERM on one
    rank ends the run on all of them after the step. An error on one rank ends it by ``comm.Abort``. Unless somebody
    chose a number of threads, ranks share the CPUs that they may use on their machine.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> x = np.random.default_rng(0).standard_normal((20, 8, 3), dtype=np.float32)
    >>> model = fr.Sequential(fr.GRU(3, 8, seed=0), fr.Last(), fr.Linear(8, 1, seed=1))
    >>> data = [fr.Batch(x, x.sum(axis=(0, 2))[:, None])]
    >>> opt = fr.optim.Adam(model, lr=0.01)
    >>> history = fr.fit(model, data, fr.losses.mse, opt, epochs=30, progress=False)
    >>> history.epochs[-1]["loss"] < history.epochs[0]["loss"]
    True
    """

    def checked() -> tuple[Limits, Checkpoint | None]:
        check_model(model, optimizer)
        limits = check_limits(Limits(epochs, steps, minutes))
        check_numbers(
            early_stopping=early_stopping,
            validate_every=validate_every,
            clip_norm=clip_norm,
            clip_value=clip_value,
            checkpoint_seconds=checkpoint_seconds,
        )
        check_validation(validation, validate_every, schedule, early_stopping)
        check_data(data, validation, limits)
        if checkpoint is None and resume:
            raise ValueError("resume: needs checkpoint=, the folder to go on from")
        return limits, None if checkpoint is None else Checkpoint(checkpoint)

    def made(kind: Any, limits: Limits, keeper: Checkpoint | None, **more: Any) -> Any:
        return kind(
            model,
            data,
            Objective(model, loss, carry_state=carry_state, validated=validation is not None),
            Adam(model) if optimizer is None else optimizer,
            limits=limits,
            validation=validation,
            validate_every=validate_every,
            schedule=schedule,
            clip_norm=clip_norm,
            clip_value=clip_value,
            patience=early_stopping,
            checkpoint=keeper,
            checkpoint_seconds=checkpoint_seconds,
            seed=seed,
            progress=Progress() if progress is True else progress or None,
            **more,
        )

    if comm is not None:
        from fastrnn.train.distributed_fit import fit_together

        return fit_together(comm, checked, made, resume)
    limits, keeper = checked()
    found = keeper is not None and keeper.found(resume)
    run: Run = made(Run, limits, keeper)
    if keeper is not None and found:
        run.load(keeper)
    return run.run()
