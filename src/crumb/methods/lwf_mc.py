"""LwF-MC: learning without forgetting for many classes, iCaRL without exemplars.

Rebuffi, Kolesnikov, Sperl, Lampert, "iCaRL: Incremental Classifier and Representation Learning",
CVPR 2017, section 4.1.
"""

from __future__ import annotations

from torch import Tensor

from crumb.data.batches import Batch
from crumb.methods.icarl import sigmoid_losses, sigmoid_targets
from crumb.methods.previous import Distiller
from crumb.methods.registry import register


@register
class LwfMc(Distiller):
    """Trains independent sigmoid outputs, distilling old classes from the last task's network.

    The losses are iCaRL's (algorithm 3 of the paper) on new images alone: binary cross entropy with
    one-hot labels for the classes of the present task, and with the previous network's sigmoids for
    those before, summed over classes and averaged over images. A class that comes back is learned
    from its labels again. There are no exemplars, and an image is of the class whose output is the
    largest. The outputs are the head's own: SqueezeNet's are rectified after it, and a sigmoid of
    what is never negative could not deny a class.

    It is what the program behind the published comparison trains under the name of LwF. Gradients
    are clipped as for all methods.
    """

    name = "lwf_mc"
    summary = "iCaRL's losses without its exemplars"
    paper = "Rebuffi et al., CVPR 2017"
    keeps = "a copy of the tail"

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step of both losses (without old classes in the first task)."""
        self.previous.show(batch.labels)
        labels = batch.labels.to(self.device, non_blocking=True)
        classes = len(self.classes)
        targets, old = sigmoid_targets(self.previous, batch.features, labels, classes)
        losses = sigmoid_losses(self.scores(batch.features), targets, old)
        self.step(losses["classification"] + losses["distillation"])
        return {name: loss.detach() for name, loss in losses.items()}

    def scores(self, features: Tensor) -> Tensor:
        """Logits of the classes seen so far, [B, classes], before any rectifier."""
        return self.active(self.network(features, linear=True))
