"""Offline training: the upper bound of every comparison."""

from __future__ import annotations

from crumb.methods.base import BytesHeld
from crumb.methods.finetune import Finetune
from crumb.methods.registry import register


@register
class Offline(Finetune):
    """Trains at each task on all frames of all tasks so far, shuffled.

    It starts each task from the weights of the last one, as the published upper bound does. What
    it keeps is the whole data set, which no budget counts: it answers how far memory could help.
    """

    name = "offline"
    summary = "trains on everything so far at every task"
    paper = "upper bound"
    keeps = "the whole data set"
    offline = True

    def bytes_held(self) -> BytesHeld:
        """Nothing of its own: the stream hands it all frames of the tasks so far."""
        return BytesHeld(0, 0)
