"""Which pictures are painted to be judged."""

import torch
from torch import Tensor

from unclip.core.seeding import generator
from unclip.data.prepared import Prepared


def judged_captions(data: Prepared, num_judged: int, seed: int) -> Tensor:
    """Returns the caption of each judged picture, (N,) int64.

    The first `num_judged` pictures cycle through the captions that training shows, or through a
    seeded choice if there are more captions; each held-out caption then gets as many pictures as
    one of these.
    """
    held_out = torch.tensor(data.held_out_captions, dtype=torch.int64)
    captions = torch.arange(len(data.captions))
    seen = captions[~torch.isin(captions, held_out)]
    order = torch.randperm(len(seen), generator=generator(seed, "judged captions"))
    seen = seen[order[:num_judged]].sort().values
    rounds = -(-num_judged // len(seen))
    return torch.cat([seen.repeat(rounds)[:num_judged], held_out.repeat(rounds)])
