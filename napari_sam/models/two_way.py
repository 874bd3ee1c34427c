"""The two-way transformer of the mask decoders (Kirillov et al. 2023, Segment Anything, appendix A).

Prompt tokens attend to the image and the image attends to the tokens. Parameter names are those of the
published SAM checkpoints.

An image has thousands of tokens, a prompt a handful. So projections are moved from the image's side of an
attention to the tokens' side wherever that is less work: ``q · (W x)`` is ``(Wᵀ q) · x``, and a mean of
``W x`` is ``W`` times the mean of ``x``. Results differ by rounding only. What does not depend on the
prompt is computed once (:meth:`TwoWayTransformer.prepare`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.models.linear import products

__all__ = ["Attention", "ImageTokens", "TwoLayers", "TwoWayAttentionBlock", "TwoWayTransformer"]


class ImageTokens(NamedTuple):
    """The image's side of a decoder, for ``B`` prompts or, with ``B`` of 1, for any number of them.

    Attributes
    ----------
    image : Tensor, shape (B, N, D)
    positions : Tensor, shape (1, N, D)
    keys, values : Tensor, shape (B, heads, N, d)
        Of the first attention to the image.
    queries : Tensor, shape (B, heads, N, d)
        Of the first attention from the image.
    """

    image: Tensor
    positions: Tensor
    keys: Tensor
    values: Tensor
    queries: Tensor


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than the token width."""

    def __init__(self, dim: int, num_heads: int, downsample_rate: int = 1) -> None:
        super().__init__()
        inner = dim // downsample_rate
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def split(self, x: Tensor) -> Tensor:
        """(B, N, heads * d) as (B, heads, N, d)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def finish(self, mixed: Tensor) -> Tensor:
        """Join the heads, (B, heads, N, d) to (B, N, heads * d), and project."""
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend from ``q`` (B, Nq, dim) to ``k`` and ``v`` (B, Nk, dim) where ``mask`` (B, 1, 1, Nk)."""
        q, k, v = self.split(self.q_proj(q)), self.split(self.k_proj(k)), self.split(self.v_proj(v))
        return self.finish(F.scaled_dot_product_attention(q, k, v, attn_mask=mask))

    def to_image(self, tokens: Tensor, placed: Tensor, image: Tensor) -> Tensor:
        """Attend from tokens (B, T, D) to the image (B, N, D); ``placed`` is the image with its positions.

        Keys and values are never computed. The keys' bias is the same for every pixel, so that softmax
        cancels it.
        """
        if self._many(tokens):
            return self(tokens, placed, image)
        q = self.split(self.q_proj(tokens))
        wanted = q @ self._by_head(self.k_proj.weight)
        scores = products(wanted.flatten(1, 2) * q.shape[-1] ** -0.5, placed)
        seen = products(torch.softmax(scores, dim=-1), image.transpose(1, 2))
        return self._values(seen.unflatten(1, (self.num_heads, -1)))

    def from_image(
        self, placed: Tensor | None, queries: Tensor | None, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Attend from every pixel to tokens ``k`` and ``v`` (B, T, D) where ``mask`` (B, 1, 1, T).

        Pixels are given with their positions, ``placed`` (B, N, D), or as ``queries`` (1 or B, heads, N, d).

        Returns
        -------
        shares : Tensor, shape (B, heads * T, N)
        outcomes : Tensor, shape (B, heads * T, D)
            The attention's output is their product, ``sharesᵀ outcomes``, plus the bias of ``out_proj``.
        """
        k, v = self.split(self.k_proj(k)), self.split(self.v_proj(v))
        k = k * k.shape[-1] ** -0.5
        if queries is None:
            assert placed is not None
            wanted = (k @ self._by_head(self.q_proj.weight)).flatten(1, 2)
            bias = (k @ self.q_proj.bias.unflatten(0, (self.num_heads, -1, 1))).flatten(1, 2)
            scores = (products(wanted, placed) + bias).unflatten(1, k.shape[1:3])
        else:
            scores = k @ queries.transpose(2, 3)
        if mask is not None:
            scores = scores.masked_fill(~mask.transpose(2, 3), -torch.inf)
        shares = torch.softmax(scores, dim=2).flatten(1, 2)
        outcomes = v @ self._by_head(self.out_proj.weight.t())
        return shares, outcomes.flatten(1, 2)

    def _by_head(self, weight: Tensor) -> Tensor:
        """(heads * d, D) as (heads, d, D)."""
        return weight.unflatten(0, (self.num_heads, -1))

    def _values(self, seen: Tensor) -> Tensor:
        """Project means of the image per head, (B, heads, T, D), to the output (B, T, D)."""
        mixed = seen @ self._by_head(self.v_proj.weight).transpose(1, 2)
        return self.out_proj(mixed.transpose(1, 2).flatten(2) + self.v_proj.bias)

    def _many(self, tokens: Tensor) -> bool:
        """Whether there are so many tokens that projecting the image is less work."""
        inner, dim = self.v_proj.weight.shape
        return self.num_heads * tokens.shape[1] * dim > inner * (dim + tokens.shape[1])


class TwoWayAttentionBlock(nn.Module):
    """Self-attention of tokens, tokens to image, MLP on tokens, image to tokens."""

    def __init__(
        self, dim: int, num_heads: int, mlp: nn.Module, downsample_rate: int = 2, skip_first_pe: bool = False
    ) -> None:
        super().__init__()
        self.self_attn = Attention(dim, num_heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, num_heads, downsample_rate)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = mlp
        self.norm3 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, num_heads, downsample_rate)
        self.norm4 = nn.LayerNorm(dim)
        self.skip_first_pe = skip_first_pe

    def forward(
        self,
        tokens: Tensor,
        token_pe: Tensor,
        image: Tensor,
        positions: Tensor,
        prepared: ImageTokens | None,
        mask: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Tokens (B, T, D) and image (B, N, D) after the block.

        With ``prepared``, for the first block, the image is the one that was prepared.
        """
        if self.skip_first_pe:
            tokens = self.self_attn(tokens, tokens, tokens, mask)
        else:
            q = tokens + token_pe
            tokens = tokens + self.self_attn(q, q, tokens, mask)
        tokens = self.norm1(tokens)
        to_image, from_image = self.cross_attn_token_to_image, self.cross_attn_image_to_token
        placed = queries = None
        if prepared is None:
            placed = image + positions
            seen = to_image.to_image(tokens + token_pe, placed, image)
        else:
            queries = prepared.queries
            q = to_image.split(to_image.q_proj(tokens + token_pe))
            mixed = F.scaled_dot_product_attention(
                q, prepared.keys.expand(len(q), -1, -1, -1), prepared.values.expand(len(q), -1, -1, -1)
            )
            seen = to_image.finish(mixed)
        tokens = self.norm2(tokens + seen)
        tokens = self.norm3(tokens + self.mlp(tokens))
        shares, outcomes = from_image.from_image(placed, queries, tokens + token_pe, tokens, mask)
        changed = torch.baddbmm(
            (image + from_image.out_proj.bias).expand(len(tokens), -1, -1), shares.transpose(1, 2), outcomes
        )
        return tokens, self.norm4(changed)


class TwoWayTransformer(nn.Module):
    """A stack of two-way blocks and a last attention from tokens to image.

    Parameters
    ----------
    depth, dim, num_heads, mlp_dim : int
    downsample_rate : int
        How much narrower attentions between tokens and image are.
    mlp : callable
        Makes the MLP of a block from ``dim`` and ``mlp_dim``.
    """

    def __init__(
        self,
        depth: int,
        dim: int,
        num_heads: int,
        mlp_dim: int,
        downsample_rate: int = 2,
        mlp: type[nn.Module] | None = None,
    ) -> None:
        super().__init__()
        make = mlp or TwoLayers
        self.layers = nn.ModuleList(
            TwoWayAttentionBlock(dim, num_heads, make(dim, mlp_dim), downsample_rate, skip_first_pe=i == 0)
            for i in range(depth)
        )
        self.final_attn_token_to_image = Attention(dim, num_heads, downsample_rate)
        self.norm_final_attn = nn.LayerNorm(dim)

    def prepare(self, image: Tensor, positions: Tensor) -> ImageTokens:
        """What the first block needs of the image whatever the prompt.

        Parameters
        ----------
        image : Tensor, shape (B, N, D)
        positions : Tensor, shape (1, N, D)
        """
        first = self.layers[0]
        assert isinstance(first, TwoWayAttentionBlock)
        to_image, from_image = first.cross_attn_token_to_image, first.cross_attn_image_to_token
        placed = image + positions
        return ImageTokens(
            image,
            positions,
            to_image.split(to_image.k_proj(placed)),
            to_image.split(to_image.v_proj(image)),
            from_image.split(from_image.q_proj(placed)),
        )

    def forward(
        self, prepared: ImageTokens, token_pe: Tensor, present: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mix prompts and image.

        Parameters
        ----------
        prepared : ImageTokens
            Of one image for all prompts, or of one for each.
        token_pe : Tensor, shape (B, T, D)
            The prompt tokens, which serve as their own position encoding.
        present : Tensor, shape (B, T), bool, optional
            Tokens that are attended to; padding is not, so that a prompt's mask does not depend on the
            prompts that are decoded with it.

        Returns
        -------
        tokens : Tensor, shape (B, T, D)
        image : Tensor, shape (B, N, D)
        """
        tokens, image, positions = token_pe, prepared.image, prepared.positions
        mask = None if present is None else present[:, None, None]
        for index, layer in enumerate(self.layers):
            tokens, image = layer(tokens, token_pe, image, positions, None if index else prepared, mask)
        final = self.final_attn_token_to_image
        seen = final.to_image(tokens + token_pe, image + positions, image)
        return self.norm_final_attn(tokens + seen), image


class TwoLayers(nn.Module):
    """The MLP of a block, under the parameter names ``lin1`` and ``lin2`` of the checkpoints."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden_dim)
        self.lin2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(self.lin1(x).relu())
