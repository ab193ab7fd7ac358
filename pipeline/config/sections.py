"""The sections of params.yaml that say what is computed beside training, what is drawn, and on what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from pipeline.config.types import Count, Seed, Strict, Threads


class Eigenspectrum(Strict):
    """The `eigenspectrum` section: what is computed of the curvature of each task's loss, and how."""

    matrix: Literal["hessian", "gauss-newton", "fisher"] = Field(
        "hessian",
        description="the Hessian of the loss, its generalised Gauss-Newton matrix, or the empirical Fisher information",
    )
    solver: Literal["power", "lanczos"] = Field(
        "power", description="deflated power iteration or Lanczos ([curvature](curvature.md))"
    )
    k: Annotated[int, Field(ge=1, le=10_000)] = Field(description="eigenvalues per task")
    tolerance: Annotated[float, Field(gt=0, lt=1)] = Field(description="relative residual to reach")
    max_products: Count = Field(description="Hessian-vector products per pair, at most")
    images: Literal["test", "train"] = Field(description="images of the task that the loss is taken on")
    examples: Count | None = Field(None, description="a seeded subset of so many images of each task; null: all")
    seed: Seed = Field(description="of the start vectors and the subset")
    end_of_stream: bool = Field(False, description="also each task's loss at the end of the stream")
    published: bool = Field(False, description="also what the published procedure gives on the same Hessian")
    polish: bool = Field(False, description="finish in float64 (not the blocks of layers)")
    save_vectors: bool = Field(False, description="keep the eigenvectors in `eigenvectors/`")
    density_probes: Annotated[int, Field(ge=0, le=1000)] = Field(
        0, description="random vectors of the spectral density; 0: none"
    )
    density_steps: Annotated[int, Field(ge=2, le=10_000)] = Field(60, description="products for each of them")
    prediction: bool = Field(
        False,
        description="also what the quadratic model predicts later tasks to cost, and the loss along the way there",
    )
    trace_probes: Annotated[int, Field(ge=0, le=10_000)] = Field(
        0, description="random vectors of signs for trace and Frobenius norm, a product each; 0: none"
    )
    blocks: bool = Field(False, description="also the largest eigenvalue of the block of each layer")


class Figures(Strict):
    """The `figures` section: the resolution of the figures, and the methods that they and the report compare."""

    dpi: Annotated[int, Field(ge=50, le=1200)] = Field(description="dots per inch of the PNG files")
    vector_formats: Annotated[list[Literal["svg", "pdf"]], Field(max_length=2)] = Field(
        ["svg"], description="vector graphics of each figure beside its PNG file: [svg], [pdf], [svg, pdf] or []"
    )
    stable: str = Field(description="one of the two methods that the figure of three rows sets side by side")
    plastic: str = Field(description="the other one")
    reference: str = Field(description="the method that report and figures compare the others with, seed by seed")


class Compute(Strict):
    """The `compute` section: how to compute, not what. No stage depends on it, so a change here reruns nothing."""

    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$")] = Field(
        description="where to compute: cpu, cuda, cuda:1, mps, or auto (cuda if there is one, else cpu; never mps)"
    )
    threads: Threads = Field(description="threads of each stage")
    memory: Annotated[float, Field(ge=0.01, le=10**6)] = Field(
        2.0, description="GiB that an eigenspectrum may keep between Hessian-vector products"
    )
    portable: bool = Field(
        True,
        description="the same bytes on every x86-64 processor with AVX2 ([what holds where](portable.md)); false: "
        "the fastest kernels",
    )

    @property
    def memory_bytes(self) -> int:
        """`memory` in bytes."""
        return int(self.memory * 2**30)
