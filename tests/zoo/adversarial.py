"""Several optimizers, and optimization by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.pruning import criteria
from zoo.entry import BY_HAND, IN_PARTS, NO_SOFTMAX, NUM_CLASSES, Trained, member, mlp

NO_LOSS = {name: BY_HAND for name in criteria.__all__ if getattr(criteria, name).needs == "batches"}


@member("generator.?.weight", "critic.?.weight", refuses=NO_LOSS | IN_PARTS)
class GAN(Trained):
    """Generator and critic with an optimizer each, toggled by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.critic = mlp(4, 8, 64), mlp(64, 6, 1)

    def training_step(self, batch, batch_idx):
        first, second = self.optimizers()
        noise = torch.randn(len(batch[0]), 4, device=self.device)
        self.toggle_optimizer(first)
        fake = self.critic(self.generator(noise))
        self.log("generator", loss := F.softplus(-fake).mean())
        first.zero_grad()
        self.manual_backward(loss)
        first.step()
        self.untoggle_optimizer(first)
        self.toggle_optimizer(second)
        loss = F.softplus(self.critic(self.generator(noise).detach())) + F.softplus(-self.critic(batch[0]))
        second.zero_grad()
        self.manual_backward(loss.mean())
        second.step()
        self.untoggle_optimizer(second)

    def configure_optimizers(self):
        adam = [torch.optim.Adam(part.parameters(), lr=0.01) for part in (self.generator, self.critic)]
        return adam, []


@member("critic.?.weight", options={"network": "critic"}, arguments=NO_SOFTMAX)
class PenalizedGAN(GAN):
    """A critic with a gradient penalty, pruned alone by a loss of its own."""

    def pruning_loss(self, batch) -> Tensor:
        real = batch[0].flatten(1).requires_grad_()
        fake = self.generator(torch.randn(len(real), 4, device=self.device))
        gradient = torch.autograd.grad(self.critic(real).sum(), real, create_graph=True)[0]
        norm = (gradient.square().sum(1) + 1e-12).sqrt()
        return self.critic(fake).mean() - self.critic(real).mean() + (norm - 1).square().mean()


@member("encoder.?.weight", "head.weight", refuses=NO_LOSS | IN_PARTS)
class Alternating(Trained):
    """Two optimizers take turns; each zeroes its gradients when it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.encoder, self.head = mlp(64, 8, 8), nn.Linear(8, NUM_CLASSES)

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()[batch_idx % 2]
        optimizer.zero_grad()
        self.manual_backward(F.cross_entropy(self.head(F.relu(self.encoder(batch[0]))), batch[1]))
        optimizer.step()

    def configure_optimizers(self):
        return [
            torch.optim.AdamW(self.encoder.parameters(), lr=0.01, weight_decay=0.1),
            torch.optim.SGD(self.head.parameters(), lr=0.1, momentum=0.9, nesterov=True),
        ]


class SAMOptimizer(torch.optim.Optimizer):
    """Sharpness-aware minimisation as published code writes it: two phases, no ``step``."""

    def __init__(self, params, rho: float = 0.05, **options) -> None:
        super().__init__(params, {"rho": rho})
        self.inner = torch.optim.SGD(self.param_groups, **options)

    @torch.no_grad()
    def first_step(self) -> None:
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        norm = torch.stack([g.norm() for g in gradients if g is not None]).norm()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.state[p]["old"] = p.clone()
                    p.add_(p.grad, alpha=group["rho"] / float(norm + 1e-12))
        self.zero_grad()

    @torch.no_grad()
    def second_step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.copy_(self.state[p]["old"])
        self.inner.step()
        self.zero_grad()

    def step(self, closure=None):
        raise NotImplementedError("call first_step and second_step")


@member("net.?.weight", refuses=NO_LOSS, not_resumable="the inner optimizer is not in the checkpoint")
class SAM(Trained):
    """Each batch passes twice: weights are moved up the gradient and put back between."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net = mlp(64, 8, NUM_CLASSES)

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        for phase in (optimizer.first_step, optimizer.second_step):
            self.manual_backward(F.cross_entropy(self.net(batch[0]), batch[1]))
            phase()

    def configure_optimizers(self):
        return SAMOptimizer(self.parameters(), lr=0.1, momentum=0.9)


@member("net.?.weight")
class ByHand(Trained):
    """Accumulates two batches by hand, clips, and gives pruning a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net = mlp(64, 8, NUM_CLASSES)

    def pruning_loss(self, batch) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        self.manual_backward(self.pruning_loss(batch) / 2)
        if batch_idx % 2 or self.trainer.is_last_batch:
            self.clip_gradients(optimizer, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
            optimizer.step()
            optimizer.zero_grad()


@member("net.?.weight", trainer={"gradient_clip_val": 0.1, "accumulate_grad_batches": 2})
class OneCycle(Trained):
    """A learning rate and a momentum that change after every batch, with clipping and accumulation."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(64, 8, NUM_CLASSES)

    def training_step(self, batch, batch_idx):
        self.log("loss", loss := F.cross_entropy(self.net(batch[0]), batch[1]))
        return {"loss": loss}

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=20)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@member("net.?.weight")
class SecondOrder(Trained):
    """LBFGS calls the training step several times within one step, through a closure."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(64, 6, NUM_CLASSES)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)
