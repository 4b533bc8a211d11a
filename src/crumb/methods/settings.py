"""What crumb.create takes for each method. Written by tools/make_settings.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict, Unpack, overload

import torch

from crumb.methods.teachable import Teachable


class CommonSettings(TypedDict, total=False):
    """For every method."""

    backbone: str
    cut: str | None
    weights: str | Path
    seed: int
    device: str | torch.device


class AanetsSettings(CommonSettings, total=False):
    """Of aanets."""

    compute_budget: int | None
    lr: float
    momentum: float
    weight_decay: float
    clip: float
    memory_size: int | None
    memory_bytes: int | None
    budget_bytes: int | None
    storage: Literal["image", "raw_feature"]
    exemplar_side: int | None
    jpeg_quality: int | None
    new_as_stored: bool
    teacher: Literal["none", "ema"]
    teacher_decay: float
    distillation: float
    temperature: float
    fusion_lr: float


class AgemSettings(CommonSettings, total=False):
    """Of agem."""

    compute_budget: int | None
    lr: float
    momentum: float
    weight_decay: float
    clip: float
    memory_size: int | None
    memory_bytes: int | None
    budget_bytes: int | None
    storage: Literal["image", "raw_feature"]
    draw_policy: Literal["uniform"]
    write_policy: Literal["end-of-task"]
    exemplar_side: int | None
    jpeg_quality: int | None
    new_as_stored: bool
    teacher: Literal["none", "ema"]
    teacher_decay: float
    reference_size: int | None


class AgemRSettings(CommonSettings, total=False):
    """Of agem_r."""

    compute_budget: int | None
    lr: float
    momentum: float
    weight_decay: float
    clip: float
    memory_size: int | None
    memory_bytes: int | None
    budget_bytes: int | None
    storage: Literal["image", "raw_feature"]
    draw_policy: Literal["uniform"]
    write_policy: Literal["reservoir", "on-arrival", "greedy"]
    exemplar_side: int | None
    jpeg_quality: int | None
    new_as_stored: bool
    teacher: Literal["none", "ema"]
    teacher_decay: float
    reference_size: int | None


class BicSettings(CommonSettings, total=False):
    """Of bic."""

    compute_budget: int | None
    lr: float
    momentum: float
    weight_decay: float
    clip: float
    memory_size: int | None
    memory_bytes: int | None
    budget_bytes: int | None
    storage: Literal["image", "raw_feature"]
    exemplar_side: int | None
    jpeg_quality: int | None
    new_as_stored: bool
    teacher: Literal["none", "ema"]
    teacher_decay: float
    temperature: float
    bias_lr: float
    bias_steps: int


class CopeSettings(CommonSettings, total=False):
    """Of cope."""

    compute_budget: int | None
    lr: float
    momentum: float
    weight_decay: float
    clip: float
    memory_size: int | None
    memory_bytes: int | None
    budget_bytes: int | None
    storage: Literal["image", "raw_feature", "none"]
    draw_policy: Literal["uniform", "grasp"]
    write_policy: Literal["end-of-task", "herding", "on-arrival", "reservoir", "greedy"]
    exemplar_side: int | None
    jpeg_quality: int | None
    new_as_stored: bool
    teacher: Literal["none", "ema"]
    teacher_decay: float
    prototype_momentum: float
    temperature: float
    n_iter: int


class CrumbSettings(CommonSettings, total=False):
    """Of crumb."""

    compute_budget: int | None
    lr: float
    momentum: float
    weight_decay: float
    clip: float
    memory_size: int | None
    memory_bytes: int | None
    budget_bytes: int | None
    storage: Literal["feature", "image", "raw_feature", "enhanced_feature", "merec", "none"]
    exemplar_side: int | None
    jpeg_quality: int | None
    new_as_stored: bool
    draw_policy: Literal["uniform", "grasp"]
    write_policy: Literal["end-of-task", "on-arrival"] | None
    blocks: int
    block_length: int | None
    initialiser: str | None
    frozen_blocks: bool
    replay_coefficient: float
    replay_times: int
    codebook_loss: float
    direct_loss: float


class Crumb2Settings(CommonSettings, total=False):
    """Of crumb2."""

    lr: float
    momentum: float
    weight_decay: float
    clip: float
    transform: Literal["sqrt", "none"]
    dimensions: int | None
    budget_bytes: int | None
    classes_expected: int
    shrinkage: float
    prior_frames: int
    crumbs: int
    tuning_epochs: int
    tail: Literal["first-task", "frozen"] | None
    rank: int | None
    class_share: float


class DerSettings(CommonSettings, total=False):
    """Of der."""

    compute_budget: int | None
    lr: float
    momentum: float
    weight_decay: float
    clip: float
    memory_size: int | None
    memory_bytes: int | None
    budget_bytes: int | None
    storage: Literal["image", "raw_feature"]
    draw_policy: Literal["uniform", "grasp"]
    write_policy: Literal["reservoir", "on-arrival", "greedy"]
    exemplar_side: int | None
    jpeg_quality: int | None
    new_as_stored: bool
    teacher: Literal["none", "ema"]
    teacher_decay: float
    alpha: float


class DerppSettings(CommonSettings, total=False):
    """Of derpp."""

    compute_budget: int | None
    lr: float
    momentum: float
    weight_decay: float
    clip: float
    memory_size: int | None
    memory_bytes: int | None
    budget_bytes: int | None
    storage: Literal["image", "raw_feature"]
    draw_policy: Literal["uniform", "grasp"]
    write_policy: Literal["reservoir", "on-arrival", "greedy"]
    exemplar_side: int | None
    jpeg_quality: int | None
    new_as_stored: bool
    teacher: Literal["none", "ema"]
    teacher_decay: float
    alpha: float
    beta: float


class ErSettings(CommonSettings, total=False):
    """Of er."""

    compute_budget: int | None
    lr: float
    momentum: float
    weight_decay: float
    clip: float
    memory_size: int | None
    memory_bytes: int | None
    budget_bytes: int | None
    storage: Literal["image", "raw_feature"]
    draw_policy: Literal["uniform", "grasp"]
    write_policy: Literal["end-of-task", "herding", "on-arrival", "reservoir", "greedy"]
    exemplar_side: int | None
    jpeg_quality: int | None
    new_as_stored: bool
    teacher: Literal["none", "ema"]
    teacher_decay: float
    replay_coefficient: float


class ErAceSettings(CommonSettings, total=False):
    """Of er_ace."""

    compute_budget: int | None
    lr: float
    momentum: float
    weight_decay: float
    clip: float
    memory_size: int | None
    memory_bytes: int | None
    budget_bytes: int | None
    storage: Literal["image", "raw_feature"]
    draw_policy: Literal["uniform", "grasp"]
    write_policy: Literal["end-of-task", "herding", "on-arrival", "reservoir", "greedy"]
    exemplar_side: int | None
    jpeg_quality: int | None
    new_as_stored: bool
    teacher: Literal["none", "ema"]
    teacher_decay: float


class EwcSettings(CommonSettings, total=False):
    """Of ewc."""

    lr: float
    momentum: float
    weight_decay: float
    clip: float
    regularisation: float
    trained_outputs: Literal["task", "all"]
    form: Literal["per-task", "online"]
    gamma: float
    fisher: Literal["sampled", "empirical"]
    fisher_samples: int | None


class FecamSettings(CommonSettings, total=False):
    """Of fecam."""

    transform: Literal["sqrt", "none"]
    dimensions: int | None
    budget_bytes: int | None
    classes_expected: int
    diagonal_shrinkage: float
    off_diagonal_shrinkage: float
    pooled_share: float


class FinetuneSettings(CommonSettings, total=False):
    """Of finetune."""

    lr: float
    momentum: float
    weight_decay: float
    clip: float


class FsaSettings(CommonSettings, total=False):
    """Of fsa."""

    lr: float
    momentum: float
    weight_decay: float
    clip: float
    transform: Literal["sqrt", "none"]
    dimensions: int | None
    budget_bytes: int | None
    classes_expected: int
    shrinkage: float
    prior_frames: int
    crumbs: int
    tuning_epochs: int


class GdumbSettings(CommonSettings, total=False):
    """Of gdumb."""

    compute_budget: int | None
    lr: float
    momentum: float
    weight_decay: float
    clip: float
    memory_size: int | None
    memory_bytes: int | None
    budget_bytes: int | None
    storage: Literal["image", "raw_feature"]
    draw_policy: Literal["uniform"]
    write_policy: Literal["greedy", "on-arrival", "reservoir"]
    exemplar_side: int | None
    jpeg_quality: int | None
    new_as_stored: bool
    teacher: Literal["none"]
    teacher_decay: float
    memory_epochs: int
    memory_batch_size: int


class GemSettings(CommonSettings, total=False):
    """Of gem."""

    compute_budget: int | None
    lr: float
    momentum: float
    weight_decay: float
    clip: float
    memory_size: int | None
    memory_bytes: int | None
    budget_bytes: int | None
    storage: Literal["image", "raw_feature"]
    exemplar_side: int | None
    jpeg_quality: int | None
    new_as_stored: bool
    teacher: Literal["none", "ema"]
    teacher_decay: float
    write_policy: Literal["end-of-task", "on-arrival"] | None
    margin: float


class GssSettings(CommonSettings, total=False):
    """Of gss."""

    compute_budget: int | None
    lr: float
    momentum: float
    weight_decay: float
    clip: float
    memory_size: int | None
    memory_bytes: int | None
    budget_bytes: int | None
    storage: Literal["image", "raw_feature"]
    exemplar_side: int | None
    jpeg_quality: int | None
    new_as_stored: bool
    teacher: Literal["none", "ema"]
    teacher_decay: float
    gradients: Literal["tail", "head"]
    n_iter: int
    n_constraints: int | None
    memory_strength: int
    n_memories: int | None


class IcarlSettings(CommonSettings, total=False):
    """Of icarl."""

    compute_budget: int | None
    lr: float
    momentum: float
    weight_decay: float
    clip: float
    memory_size: int | None
    memory_bytes: int | None
    budget_bytes: int | None
    storage: Literal["image", "raw_feature"]
    exemplar_side: int | None
    jpeg_quality: int | None
    new_as_stored: bool
    teacher: Literal["none", "ema"]
    teacher_decay: float


class KldaSettings(CommonSettings, total=False):
    """Of klda."""

    transform: Literal["sqrt", "none"]
    dimensions: int | None
    budget_bytes: int | None
    classes_expected: int
    shrinkage: float
    prior_frames: int
    crumbs: int
    gamma: float


class L2Settings(CommonSettings, total=False):
    """Of l2."""

    lr: float
    momentum: float
    weight_decay: float
    clip: float
    regularisation: float
    trained_outputs: Literal["task", "all"]


class LoraSettings(CommonSettings, total=False):
    """Of lora."""

    lr: float
    momentum: float
    weight_decay: float
    clip: float
    rank: int


class LwfSettings(CommonSettings, total=False):
    """Of lwf."""

    lr: float
    momentum: float
    weight_decay: float
    clip: float
    distillation: float
    temperature: float


class LwfMcSettings(CommonSettings, total=False):
    """Of lwf_mc."""

    lr: float
    momentum: float
    weight_decay: float
    clip: float


class MasSettings(CommonSettings, total=False):
    """Of mas."""

    lr: float
    momentum: float
    weight_decay: float
    clip: float
    regularisation: float
    trained_outputs: Literal["task", "all"]


class MirSettings(CommonSettings, total=False):
    """Of mir."""

    compute_budget: int | None
    lr: float
    momentum: float
    weight_decay: float
    clip: float
    memory_size: int | None
    memory_bytes: int | None
    budget_bytes: int | None
    storage: Literal["image", "raw_feature"]
    draw_policy: Literal["uniform"]
    write_policy: Literal["end-of-task", "herding", "on-arrival", "reservoir", "greedy"]
    exemplar_side: int | None
    jpeg_quality: int | None
    new_as_stored: bool
    teacher: Literal["none", "ema"]
    teacher_decay: float
    candidates: int


class NcmSettings(CommonSettings, total=False):
    """Of ncm."""

    transform: Literal["sqrt", "none"]
    dimensions: int | None
    budget_bytes: int | None
    classes_expected: int


class OfflineSettings(CommonSettings, total=False):
    """Of offline."""

    lr: float
    momentum: float
    weight_decay: float
    clip: float
    joint_epochs: int
    convergence: float | None


class RainbowSettings(CommonSettings, total=False):
    """Of rainbow."""

    compute_budget: int | None
    lr: float
    momentum: float
    weight_decay: float
    clip: float
    memory_size: int | None
    memory_bytes: int | None
    budget_bytes: int | None
    storage: Literal["image", "raw_feature"]
    exemplar_side: int | None
    jpeg_quality: int | None
    new_as_stored: bool
    teacher: Literal["none", "ema"]
    teacher_decay: float
    memory_only_epochs: int
    schedule: Literal["constant", "cos"]
    views: int
    perturb: Literal["feature", "image"]
    cutmix_probability: float


class RanpacSettings(CommonSettings, total=False):
    """Of ranpac."""

    transform: Literal["sqrt", "none"]
    dimensions: int | None
    budget_bytes: int | None
    classes_expected: int
    ridge: float | None


class RemindSettings(CommonSettings, total=False):
    """Of remind."""

    compute_budget: int | None
    lr: float
    momentum: float
    weight_decay: float
    clip: float
    memory_size: int | None
    memory_bytes: int | None
    budget_bytes: int | None
    storage: Literal["feature"]
    base_lr: float | None
    base_weight_decay: float
    base_batch_size: int | None
    pq_codebooks: int | None
    pq_centroids: int | None
    pq_centroids_source: Literal["fitted", "crumb"]
    schedule: Literal["constant", "class"]
    final_lr: float
    lr_step: int
    images_per_class: int
    images_per_step: int
    rehearsal_samples_per_update: int
    mixup_alpha: float
    random_resized_crops: bool


class ScrSettings(CommonSettings, total=False):
    """Of scr."""

    compute_budget: int | None
    lr: float
    momentum: float
    weight_decay: float
    clip: float
    memory_size: int | None
    memory_bytes: int | None
    budget_bytes: int | None
    storage: Literal["image", "raw_feature"]
    draw_policy: Literal["uniform", "grasp"]
    write_policy: Literal["reservoir", "on-arrival", "greedy"]
    exemplar_side: int | None
    jpeg_quality: int | None
    new_as_stored: bool
    teacher: Literal["none", "ema"]
    teacher_decay: float
    replay_size: int
    temperature: float
    hidden_size: int
    projection_size: int


class SiSettings(CommonSettings, total=False):
    """Of si."""

    lr: float
    momentum: float
    weight_decay: float
    clip: float
    regularisation: float
    trained_outputs: Literal["task", "all"]
    damping: float


class SiestaSettings(CommonSettings, total=False):
    """Of siesta."""

    compute_budget: int | None
    lr: float
    momentum: float
    weight_decay: float
    clip: float
    memory_size: int | None
    memory_bytes: int | None
    budget_bytes: int | None
    storage: Literal["feature"]
    draw_policy: Literal["uniform", "grasp"]
    base_lr: float | None
    base_weight_decay: float
    base_batch_size: int | None
    pq_codebooks: int | None
    pq_centroids: int | None
    pq_centroids_source: Literal["fitted", "crumb"]
    temperature: float
    sleep_steps: int
    sleep_batch_size: int
    sleep_every: int | None


class SldaSettings(CommonSettings, total=False):
    """Of slda."""

    transform: Literal["sqrt", "none"]
    dimensions: int | None
    budget_bytes: int | None
    classes_expected: int
    shrinkage: float
    prior_frames: int
    crumbs: int


class StableSgdSettings(CommonSettings, total=False):
    """Of stable_sgd."""

    lr: float
    momentum: float
    weight_decay: float
    clip: float
    gamma: float
    lr_floor: float
    head_dropout: float


class Create(Protocol):
    """``crumb.create``: one overload a method, so that editors complete its settings."""

    @overload
    def __call__(
        self, method: Literal["aanets"], **settings: Unpack[AanetsSettings]
    ) -> Teachable: ...
    @overload
    def __call__(self, method: Literal["agem"], **settings: Unpack[AgemSettings]) -> Teachable: ...
    @overload
    def __call__(
        self, method: Literal["agem_r"], **settings: Unpack[AgemRSettings]
    ) -> Teachable: ...
    @overload
    def __call__(self, method: Literal["bic"], **settings: Unpack[BicSettings]) -> Teachable: ...
    @overload
    def __call__(self, method: Literal["cope"], **settings: Unpack[CopeSettings]) -> Teachable: ...
    @overload
    def __call__(
        self, method: Literal["crumb"], **settings: Unpack[CrumbSettings]
    ) -> Teachable: ...
    @overload
    def __call__(
        self, method: Literal["crumb2"], **settings: Unpack[Crumb2Settings]
    ) -> Teachable: ...
    @overload
    def __call__(self, method: Literal["der"], **settings: Unpack[DerSettings]) -> Teachable: ...
    @overload
    def __call__(
        self, method: Literal["derpp"], **settings: Unpack[DerppSettings]
    ) -> Teachable: ...
    @overload
    def __call__(self, method: Literal["er"], **settings: Unpack[ErSettings]) -> Teachable: ...
    @overload
    def __call__(
        self, method: Literal["er_ace"], **settings: Unpack[ErAceSettings]
    ) -> Teachable: ...
    @overload
    def __call__(self, method: Literal["ewc"], **settings: Unpack[EwcSettings]) -> Teachable: ...
    @overload
    def __call__(
        self, method: Literal["fecam"], **settings: Unpack[FecamSettings]
    ) -> Teachable: ...
    @overload
    def __call__(
        self, method: Literal["finetune"], **settings: Unpack[FinetuneSettings]
    ) -> Teachable: ...
    @overload
    def __call__(self, method: Literal["fsa"], **settings: Unpack[FsaSettings]) -> Teachable: ...
    @overload
    def __call__(
        self, method: Literal["gdumb"], **settings: Unpack[GdumbSettings]
    ) -> Teachable: ...
    @overload
    def __call__(self, method: Literal["gem"], **settings: Unpack[GemSettings]) -> Teachable: ...
    @overload
    def __call__(self, method: Literal["gss"], **settings: Unpack[GssSettings]) -> Teachable: ...
    @overload
    def __call__(
        self, method: Literal["icarl"], **settings: Unpack[IcarlSettings]
    ) -> Teachable: ...
    @overload
    def __call__(self, method: Literal["klda"], **settings: Unpack[KldaSettings]) -> Teachable: ...
    @overload
    def __call__(self, method: Literal["l2"], **settings: Unpack[L2Settings]) -> Teachable: ...
    @overload
    def __call__(self, method: Literal["lora"], **settings: Unpack[LoraSettings]) -> Teachable: ...
    @overload
    def __call__(self, method: Literal["lwf"], **settings: Unpack[LwfSettings]) -> Teachable: ...
    @overload
    def __call__(
        self, method: Literal["lwf_mc"], **settings: Unpack[LwfMcSettings]
    ) -> Teachable: ...
    @overload
    def __call__(self, method: Literal["mas"], **settings: Unpack[MasSettings]) -> Teachable: ...
    @overload
    def __call__(self, method: Literal["mir"], **settings: Unpack[MirSettings]) -> Teachable: ...
    @overload
    def __call__(self, method: Literal["ncm"], **settings: Unpack[NcmSettings]) -> Teachable: ...
    @overload
    def __call__(
        self, method: Literal["offline"], **settings: Unpack[OfflineSettings]
    ) -> Teachable: ...
    @overload
    def __call__(
        self, method: Literal["rainbow"], **settings: Unpack[RainbowSettings]
    ) -> Teachable: ...
    @overload
    def __call__(
        self, method: Literal["ranpac"], **settings: Unpack[RanpacSettings]
    ) -> Teachable: ...
    @overload
    def __call__(
        self, method: Literal["remind"], **settings: Unpack[RemindSettings]
    ) -> Teachable: ...
    @overload
    def __call__(self, method: Literal["scr"], **settings: Unpack[ScrSettings]) -> Teachable: ...
    @overload
    def __call__(self, method: Literal["si"], **settings: Unpack[SiSettings]) -> Teachable: ...
    @overload
    def __call__(
        self, method: Literal["siesta"], **settings: Unpack[SiestaSettings]
    ) -> Teachable: ...
    @overload
    def __call__(
        self, method: Literal["slda"] | None = None, **settings: Unpack[SldaSettings]
    ) -> Teachable: ...
    @overload
    def __call__(
        self, method: Literal["stable_sgd"], **settings: Unpack[StableSgdSettings]
    ) -> Teachable: ...
    @overload
    def __call__(self, method: str, **settings: Any) -> Teachable: ...
