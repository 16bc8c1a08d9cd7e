"""Checks that values of params.yaml fit together, before any work."""

from unclip.models.sizes import level_resolutions, size_divisor
from unclip.params.sections import PaintingParams, Params, TrainingParams


def problems_of(params: Params | PaintingParams) -> list[str]:
    """Returns a line, which begins with a key, for each problem."""
    if isinstance(params, PaintingParams):
        return _of_steps(params)
    checks = (_of_training, _of_dimensions, _of_attention, _of_steps, _of_requests)
    return [problem for check in checks for problem in check(params)]


def _of_training(params: Params) -> list[str]:
    problems = []
    for name in ("clip", "prior", "decoder", "judge"):
        section: TrainingParams = getattr(params, name)
        if section.lr_min > section.lr:
            problems.append(f"{name}.lr_min: {section.lr_min:g} is above {name}.lr {section.lr:g}")
        if section.warmup_steps > section.train_steps:
            problems.append(
                f"{name}.warmup_steps: {section.warmup_steps} is more than {name}.train_steps "
                f"{section.train_steps}; lower it too"
            )
    return problems


def _of_dimensions(params: Params) -> list[str]:
    """Returns the sizes that the networks cannot have."""
    clip, prior, decoder, size = params.clip, params.prior, params.decoder, params.data.image_size
    divisions = [
        ("data.image_size", size, "clip.patch_size", clip.patch_size),
        ("clip.vision_dim", clip.vision_dim, "clip.vision_heads", clip.vision_heads),
        ("clip.text_dim", clip.text_dim, "clip.text_heads", clip.text_heads),
        ("prior.dim", prior.dim, "prior.num_heads", prior.num_heads),
        (
            "data.image_size",
            size,
            "decoder.patch_size × 2 for each level after the first",
            size_divisor(decoder.patch_size, len(decoder.channel_mult)),
        ),
    ]
    return [
        f"{name}: {value} is not a multiple of {other} ({divisor})"
        for name, value, other, divisor in divisions
        if value % divisor
    ]


def _of_attention(params: Params) -> list[str]:
    decoder, size = params.decoder, params.data.image_size
    num_levels = len(decoder.channel_mult)
    if size % size_divisor(decoder.patch_size, num_levels):
        return []  # _of_dimensions reports it
    resolutions = level_resolutions(size, decoder.patch_size, num_levels)
    problems = [
        f"decoder.attn_resolutions: {resolution} is not a level of this UNet "
        f"({', '.join(map(str, resolutions))})"
        for resolution in decoder.attn_resolutions
        if resolution not in resolutions
    ]
    widths = [decoder.model_channels * multiple for multiple in decoder.channel_mult]
    attending = {
        f"the channels at {resolution} pixels": width
        for width, resolution in zip(widths, resolutions, strict=True)
        if resolution in decoder.attn_resolutions
    }
    attending["the width of the bottleneck"] = widths[-1]
    if decoder.caption_depth > 0:
        attending["decoder.caption_dim"] = decoder.caption_dim
    return problems + [
        f"decoder.head_channels: {decoder.head_channels} does not divide {what} ({width})"
        for what, width in attending.items()
        if width % decoder.head_channels
    ]


def _of_steps(params: Params | PaintingParams) -> list[str]:
    sample = params.sample
    limits = [
        ("sample.steps", sample.steps, "decoder", params.decoder.num_timesteps),
        ("sample.prior_steps", sample.prior_steps, "prior", params.prior.num_timesteps),
    ]
    if isinstance(params, Params):
        paint_steps = params.decoder.paint_steps
        limits.append(("decoder.paint_steps", paint_steps, "decoder", params.decoder.num_timesteps))
    return [
        f"{name}: {steps} is more than {section}.num_timesteps {most}"
        for name, steps, section, most in limits
        if most is not None and steps > most
    ]


def _of_requests(params: Params) -> list[str]:
    problems = [
        f"{name}.prediction_type: eps says nothing of the data where {name}.schedule flow has only "
        "noise; expected flow, v or x_start"
        for name, section in (("prior", params.prior), ("decoder", params.decoder))
        if (section.schedule, section.prediction_type) == ("flow", "eps")
    ]
    if params.decoder.flip and not params.clip.embed_flipped:
        problems.append(
            "decoder.flip: true needs the embeddings of mirrored pictures; set "
            "clip.embed_flipped: true"
        )
    return problems
