"""The two-way transformer of the mask decoder (Kirillov et al. 2023, Segment Anything, appendix A).

Prompt tokens attend to the image and the image attends to the tokens. Parameter names are those of the
published SAM checkpoints.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Attention", "TwoWayAttentionBlock", "TwoWayTransformer"]


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

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend from ``q`` (B, Nq, dim) to ``k`` and ``v`` (B, Nk, dim) where ``mask`` (B, 1, 1, Nk)."""
        mixed = F.scaled_dot_product_attention(
            self._heads(self.q_proj(q)),
            self._heads(self.k_proj(k)),
            self._heads(self.v_proj(v)),
            attn_mask=mask,
        )
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out


class TwoWayAttentionBlock(nn.Module):
    """Self-attention of tokens, tokens to image, MLP on tokens, image to tokens."""

    def __init__(
        self, dim: int, num_heads: int, mlp_dim: int, downsample_rate: int = 2, skip_first_pe: bool = False
    ) -> None:
        super().__init__()
        self.self_attn = Attention(dim, num_heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, num_heads, downsample_rate)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = _TwoLayers(dim, mlp_dim)
        self.norm3 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, num_heads, downsample_rate)
        self.norm4 = nn.LayerNorm(dim)
        self.skip_first_pe = skip_first_pe

    def forward(
        self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if self.skip_first_pe:
            tokens = self.self_attn(tokens, tokens, tokens, mask)
        else:
            q = tokens + token_pe
            tokens = tokens + self.self_attn(q, q, tokens, mask)
        tokens = self.norm1(tokens)
        keys = image + image_pe
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_pe, keys, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.cross_attn_image_to_token(keys, tokens + token_pe, tokens, mask))
        return tokens, image


class TwoWayTransformer(nn.Module):
    """A stack of two-way blocks and a last attention from tokens to image."""

    def __init__(self, depth: int, dim: int, num_heads: int, mlp_dim: int, downsample_rate: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayAttentionBlock(dim, num_heads, mlp_dim, downsample_rate, skip_first_pe=i == 0)
            for i in range(depth)
        )
        self.final_attn_token_to_image = Attention(dim, num_heads, downsample_rate)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(
        self, image: Tensor, image_pe: Tensor, token_pe: Tensor, present: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mix prompts and image.

        Parameters
        ----------
        image : Tensor, shape (B, H*W, dim)
        image_pe : Tensor, shape (1, H*W, dim)
        token_pe : Tensor, shape (B, T, dim)
            The prompt tokens, which serve as their own position encoding.
        present : Tensor, shape (B, T), bool, optional
            Tokens that are attended to; padding is not, so that a prompt's mask does not depend on the
            prompts that are decoded with it.

        Returns
        -------
        tokens : Tensor, shape (B, T, dim)
        image : Tensor, shape (B, H*W, dim)
        """
        tokens = token_pe
        mask = None if present is None else present[:, None, None]
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, image_pe, mask)
        mixed = self.final_attn_token_to_image(tokens + token_pe, image + image_pe, image)
        return self.norm_final_attn(tokens + mixed), image


class _TwoLayers(nn.Module):
    """The MLP of a block, under the parameter names ``lin1`` and ``lin2`` of the checkpoints."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden_dim)
        self.lin2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.lin2(self.lin1(x).relu())
        return out
