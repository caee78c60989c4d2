"""A workload: a small GAN on scikit-learn's digits, with two networks, two optimizers and a distance to real digits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from tuner.core.records import Setting
from tuner.core.values import derive_seed
from tuner.training.optimizers import Bundle, build
from tuner.training.workloads.base import Batch, Workload, shuffled

TRAIN, VALIDATION = 1000, 400
PIXELS = 64
LATENT = 32
SAMPLES = 2000
"""Digits that are generated for each evaluation, always from the same latent vectors."""
FEATURES = 32
"""Length of the classifier's feature vector, in which generated and real digits are compared."""
GENERATOR, DISCRIMINATOR = "generator", "discriminator"


class DigitsGAN(Workload):
    """Generate handwritten digits of 8 x 8 pixels: 1,000 real ones to train on, 400 and 397 to compare with.

    The loss is the non-saturating one (Goodfellow et al. 2014, section 3), with the R1 penalty on the discriminator's
    gradient at real digits (Mescheder et al. 2018, section 4.1): without it gradient descent can circle the equilibrium
    for ever. Spectral normalisation would prevent that too, but it makes the loss independent of the scale of the
    discriminator's weights, which changes what learning rate and weight decay mean there. Both networks use the same
    setting.

    ``mmd`` is the squared maximum mean discrepancy between 2,000 generated and the held-out digits, unbiased, with
    the cubic polynomial kernel of the kernel Inception distance (Binkowski et al. 2018). It compares 32 features of a
    small classifier, which ``setup`` trains on the training digits, the same in every process. Some values on the
    validation split: other real digits -0.01 (below zero, because stratified samples are more alike than random ones),
    digits without eights and nines 0.03, Gaussian noise with the digits' mean and covariance 0.11, only zeros and ones
    0.47, uniform noise 1.7, one digit repeated 1.8. Other latent vectors change a value of 0.04 by 0.006 (one standard
    deviation). The metric does not detect a generator that copies training digits.

    ``classes`` is the effective number of classes that the classifier sees in the generated digits: the exponential of
    the entropy of their shares, from 1 to 10.

    An epoch is a pass over the training digits: 15 steps at the batch size of 64. Each step trains the discriminator
    once and the generator once. A run of the default horizon, 600 steps, takes 5 s on one core, and setup 2 s once per
    process.

    Args:
        width: units of the two hidden layers of either network.
        penalty: weight of the R1 penalty; 0 leaves it out.
        eval_every_steps: as in ``Workload``.
    """

    metric = "mmd"
    direction = "minimize"
    has_test = True
    horizon: Mapping[str, float] | None = {"steps": 600}
    batch_size: int = 64

    def __init__(self, width: int = 128, penalty: float = 1.0, eval_every_steps: int = 100) -> None:
        self.width, self.penalty, self.eval_every_steps = width, penalty, eval_every_steps

    def setup(self) -> None:
        splits = digits()
        self.classifier = _Classifier.trained(*splits["train"]).to(self.device)
        self.digits = splits["train"][0].to(self.device)
        self.real, self.latents = {}, {}
        for seed, split in enumerate(("validation", "test")):
            self.real[split] = self._features(splits[split][0].to(self.device))
            drawn = torch.randn(SAMPLES, LATENT, generator=torch.Generator().manual_seed(seed))
            self.latents[split] = drawn.to(self.device)

    @property
    def steps_per_epoch(self) -> int:
        return TRAIN // self.batch_size

    def model(self, seed: int) -> nn.Module:  # noqa: ARG002
        return nn.ModuleDict(
            {GENERATOR: _network(LATENT, self.width, PIXELS, nn.Tanh()), DISCRIMINATOR: _network(PIXELS, self.width, 1)}
        )

    def optimizer(self, setting: Setting, model: nn.Module, horizon: int) -> Bundle:
        return build(setting, dict(model.named_children()), horizon, self.device)

    def train_batches(self, epoch: int, seed: int) -> Iterator[Batch]:
        """Yield real digits ``[batch, 64]`` and latent vectors ``[2, batch, 32]``: for discriminator and generator."""
        generator = torch.Generator().manual_seed(derive_seed(seed, epoch, "latents"))
        for chosen in shuffled(TRAIN, self.batch_size, epoch, seed, self.device):
            yield self.digits[chosen], torch.randn(2, self.batch_size, LATENT, generator=generator)

    def train_step(self, model: nn.Module, batch: Batch, bundle: Bundle) -> Tensor:
        """Train the discriminator, then the generator; return the sum of their losses, a detached scalar."""
        assert isinstance(model, nn.ModuleDict)
        real, (first, second) = batch
        optimizer = bundle[DISCRIMINATOR]
        optimizer.zero_grad()
        discriminator_loss = self._discriminator_loss(model, real, first)
        optimizer.backward(discriminator_loss)
        optimizer.step()

        optimizer = bundle[GENERATOR]
        optimizer.zero_grad()
        with self.autocast():
            generator_loss = nn.functional.softplus(-model[DISCRIMINATOR](model[GENERATOR](second))).mean()
        optimizer.backward(generator_loss)
        optimizer.step()
        return discriminator_loss.detach() + generator_loss.detach()

    def _discriminator_loss(self, model: nn.ModuleDict, real: Tensor, latents: Tensor) -> Tensor:
        with self.autocast():
            with torch.no_grad():
                fake = model[GENERATOR](latents)
            on_real, on_fake = model[DISCRIMINATOR](torch.cat([real, fake])).chunk(2)
            loss = nn.functional.softplus(-on_real).mean() + nn.functional.softplus(on_fake).mean()
        if self.penalty:
            # Outside of autocast, because a gradient in half precision can underflow.
            point = real.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(model[DISCRIMINATOR](point).sum(), point, create_graph=True)
            loss = loss + self.penalty / 2 * gradient.square().sum(1).mean()
        return loss

    def evaluate(self, model: nn.Module, split: str) -> Mapping[str, float]:
        assert isinstance(model, nn.ModuleDict)
        return self.compare(model[GENERATOR](self.latents[split]), split)

    def compare(self, images: Tensor, split: str) -> Mapping[str, float]:
        """Return the metrics of images, ``[n, 64]`` in [-1, 1], compared with the real digits of a split."""
        features = self._features(images.float())
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            kinds = self.classifier.kinds(features)
        shares = nn.functional.one_hot(kinds, 10).double().mean(0)
        classes = float(torch.special.entr(shares).sum().exp())
        return {"mmd": squared_mmd(features, self.real[split]), "classes": classes}

    def _features(self, images: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            features: Tensor = self.classifier(images)
            return features


def squared_mmd(x: Tensor, y: Tensor) -> float:
    """Return the unbiased estimate of the squared maximum mean discrepancy of two samples, ``[n, d]`` and ``[m, d]``.

    The kernel is (x y / d + 1)^3. See Gretton et al. 2012, equation 3, and Binkowski et al. 2018.

    >>> squared_mmd(torch.tensor([[0.0], [0.0]]), torch.tensor([[1.0], [1.0]]))
    7.0
    """
    x, y = x.double(), y.double()
    return float(_among(x) + _among(y) - 2 * _kernel(x, y).mean())


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _among(x: Tensor) -> Tensor:
    """Return the mean of the kernel over all pairs of two different rows."""
    k = _kernel(x, x)
    return (k.sum() - k.diagonal().sum()) / (len(x) * (len(x) - 1))


def digits() -> dict[str, tuple[Tensor, Tensor]]:
    """Return each stratified split's images, float32 ``[n, 64]`` in [-1, 1], and their digits, int64 ``[n]``."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    train_x, rest_x, train_y, rest_y = train_test_split(x, y, train_size=TRAIN, stratify=y, random_state=0)
    validation_x, test_x, validation_y, test_y = train_test_split(
        rest_x, rest_y, train_size=VALIDATION, stratify=rest_y, random_state=0
    )
    splits = {"train": (train_x, train_y), "validation": (validation_x, validation_y), "test": (test_x, test_y)}
    return {
        split: (torch.tensor(images / 8 - 1, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64))
        for split, (images, labels) in splits.items()
    }


def _network(inputs: int, width: int, outputs: int, *last: nn.Module) -> nn.Module:
    """Return two hidden layers without normalisation, so that there are no running statistics to average."""
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.LeakyReLU(0.2),
        nn.Linear(width, width),
        nn.LeakyReLU(0.2),
        nn.Linear(width, outputs),
        *last,
    )


class _Classifier(nn.Module):
    """A small CNN that classifies digits; its output is its last hidden layer, scaled to a mean square of 1."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Linear(FEATURES, 10)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        """From images ``[n, 64]`` to features ``[n, 32]``."""
        features: Tensor = self.body(images) * self.scale
        return features

    def kinds(self, features: Tensor) -> Tensor:
        """From features ``[n, 32]`` to predicted digits, int64 ``[n]``."""
        kinds: Tensor = self.head(features / self.scale).argmax(1)
        return kinds

    @staticmethod
    def trained(images: Tensor, labels: Tensor) -> _Classifier:
        """Return a classifier trained on the CPU by one thread from a fixed seed: the same in all runs, bit for bit."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.random.fork_rng(devices=[]), torch.enable_grad():
                torch.manual_seed(0)
                net = _Classifier()
                optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
                for _ in range(300):
                    chosen = torch.randint(len(images), (64,))
                    optimizer.zero_grad()
                    loss = nn.functional.cross_entropy(net.head(net(images[chosen])), labels[chosen])
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
        finally:
            torch.set_num_threads(threads)
        net.requires_grad_(False)
        net.scale = net(images).square().mean().rsqrt()
        return net
