"""What training a language model keeps of its forward pass, from its config alone; no torch."""

from collections.abc import Mapping
from typing import Any

from trainers.tasks.locate import first_of
from trainers.trial.facts import Activations

# In units of a layer's width. Norms keep their input and output, and RMSNorm, which transformers
# writes out, the normalised input too; attention keeps its output twice, by head and beside each
# other.
OF_NORMS, OF_RMS_NORMS, OF_ATTENTION = 4, 6, 2
# In units of the inner width: before and after the activation; of a gated one both factors too.
OF_MLP, OF_GATED_MLP = 2, 4
# Embeddings and the last norm.
OUTSIDE = 4
# Of dropout a mask of one byte is kept, after attention and after the inner layer.
OF_DROPOUT = 2 / 4
# A written-out attention keeps its probabilities, and of dropout what is left of them and a mask.
OF_PAIR, OF_DROPPED_PAIR = 1, 2.25


def guess(config: Mapping[str, Any]) -> Activations | None:
    """Returns what is kept by a model with that complete config; None where it does not say how
    large its layers are. The terms are those of Korthikanti et al. 2022, equation 1, which counts
    34 bytes a position and width in 16 bits, and 5 bytes a head and pair of positions; widths and
    kinds of norms and inner layers are the config's own."""
    width = first_of(config, "hidden_size", "n_embd", "d_model")
    layers = first_of(config, "num_hidden_layers", "n_layer", "num_layers")
    heads = first_of(config, "num_attention_heads", "n_head", "num_heads")
    if width is None or layers is None or heads is None:
        return None
    head = first_of(config, "head_dim") or width // heads
    groups = first_of(config, "num_key_value_heads") or heads
    inner = first_of(config, "intermediate_size", "n_inner", "ffn_dim") or 4 * width
    is_gated = "rms_norm_eps" in config
    numbers: float = (OF_RMS_NORMS if is_gated else OF_NORMS) * width
    numbers += head * (heads + 2 * groups) + OF_ATTENTION * head * heads
    numbers += (OF_GATED_MLP if is_gated else OF_MLP) * inner
    drops = _any(config, "attn_pdrop", "attention_dropout")
    if _any(config, "resid_pdrop", "dropout", "hidden_dropout"):
        numbers += OF_DROPOUT * width
    return Activations(
        layers=layers,
        per_position=numbers,
        per_pair=heads * (OF_DROPPED_PAIR if drops else OF_PAIR),
        drops_attention=drops,
        layer_input=width,
        outside=OUTSIDE * width,
    )


def _any(config: Mapping[str, Any], *names: str) -> bool:
    return any(config.get(name) or 0 for name in names)
