import pytest
import torch

from unclip.config.errors import UserError
from unclip.data.text import split_words
from unclip.data.tokenizer import VOCAB_SIZE, tokenize, trim_padding


def test_a_row_is_start_bytes_end_and_padding():
    tokens, mask = tokenize(["ab"], 6)
    assert tokens.tolist() == [[2, 97, 98, 3, 0, 0]]
    assert mask.tolist() == [[True, True, True, True, False, False]]
    assert tokens.dtype == torch.int64
    assert mask.dtype == torch.bool


@pytest.mark.parametrize(("caption", "num_bytes"), [("é", 2), ("a é b", 6), ("🙂", 4), ("語", 3)])
def test_the_mask_counts_bytes_not_characters(caption, num_bytes):
    tokens, mask = tokenize([caption], 16)
    assert int(mask.sum()) == num_bytes + 2
    assert tokens[0, num_bytes + 1] == 3


def test_the_bytes_between_start_and_end_are_the_caption():
    captions = ["a large red circle", "été 🙂", "x"]
    tokens, mask = tokenize(captions, 32)
    rows = [row[keep][1:-1].tolist() for row, keep in zip(tokens, mask, strict=True)]
    assert [bytes(row).decode() for row in rows] == captions


def test_capital_letters_mean_the_same():
    captions = ["An Image of a DRESS", "ÉTÉ"]
    for ours, theirs in zip(
        tokenize(captions, 32), tokenize(["an image of a dress", "été"], 32), strict=True
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "prompt",
    [
        *(
            "a ro\u0308tlich cup",
            "A\u00a0RO\u0308TLICH\u2009\u3000cup",
            "\ufeffa r\u00f6tlich\u200b cup\n",
        ),
        "a\tr\u00f6t\u00adlich\u200e c\u200du\u200cp\u2060",
    ],
    ids=ascii,
)
def test_what_looks_alike_is_read_alike(prompt):
    assert torch.equal(tokenize([prompt], 32)[0], tokenize(["a r\u00f6tlich cup"], 32)[0])
    assert split_words(prompt) == ["a", "r\u00f6tlich", "cup"]


def test_every_token_is_in_the_vocabulary():
    tokens, _ = tokenize(["ÿ🙂\x7f~\U0010ffff", "a"], 32)
    assert 0 <= int(tokens.min()) <= int(tokens.max()) < VOCAB_SIZE


def test_a_caption_that_just_fits_is_whole():
    tokens, mask = tokenize(["éé"], 6)
    assert tokens[0, -1] == 3
    assert mask.all()


@pytest.mark.parametrize("caption", ["abcde", "ééa", "🙂a"])
def test_a_caption_one_byte_too_long_is_an_error_and_not_cut(caption):
    with pytest.raises(UserError, match=r"5 bytes.* at most 4 .*clip\.text_length"):
        tokenize(["ok", caption], 6)


def test_an_error_quotes_a_long_caption_shortened():
    with pytest.raises(UserError, match="'large large") as error:
        tokenize(["large " * 1000], 64)
    assert len(str(error.value)) < 250


@pytest.mark.parametrize("caption", ["", " ", "\n\t", "\u00a0\u200b\u200d\ufeff"])
def test_an_empty_caption_is_an_error(caption):
    with pytest.raises(UserError, match="empty"):
        tokenize([caption], 16)


@pytest.mark.parametrize(("byte", "role"), [(0, "padding"), (2, "start"), (3, "end")])
def test_control_characters_are_an_error_that_names_them(byte, role):
    with pytest.raises(UserError, match=rf"byte 3 is the control character {byte}.*{role}"):
        tokenize([f"red{chr(byte)}"], 16)


def test_half_a_surrogate_pair_is_an_error():
    with pytest.raises(UserError, match="surrogate"):
        tokenize(["red \udc80"], 16)


def test_trimming_keeps_every_real_token_and_no_common_padding():
    tokens, mask = tokenize(["a", "abc"], 16)
    short_tokens, short_mask = trim_padding(tokens, mask)
    assert short_tokens.shape == short_mask.shape == (2, 5)
    assert torch.equal(short_tokens, tokens[:, :5])
    assert torch.equal(short_mask, mask[:, :5])
    assert short_mask.sum() == mask.sum()


def test_no_captions_are_no_rows():
    tokens, mask = trim_padding(*tokenize([], 8))
    assert tokens.shape == mask.shape == (0, 0)
