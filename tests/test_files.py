"""Files and folders that are replaced whole or not at all."""

import pytest

from unclip.core.files import replaced


def test_a_file_is_written_where_no_folder_was(tmp_path):
    with replaced(tmp_path / "deep" / "a.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "deep" / "a.txt").read_text() == "new"
    assert len(list((tmp_path / "deep").iterdir())) == 1


def test_a_folder_takes_the_place_of_another_with_nothing_of_it_left(tmp_path):
    for name in ("old", "new"):
        with replaced(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "new"]


def fail(path, is_folder):
    with replaced(path) as temporary:
        if is_folder:
            temporary.mkdir()
            temporary = temporary / "inside"
        temporary.write_text("half")
        raise OSError("full")


@pytest.mark.parametrize("is_folder", [False, True])
def test_where_the_writing_fails_the_old_one_stays_and_nothing_else(tmp_path, is_folder):
    (tmp_path / "a").write_text("old")
    with pytest.raises(OSError, match="full"):
        fail(tmp_path / "a", is_folder)
    assert (tmp_path / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_what_a_killed_process_has_left_is_no_hindrance(tmp_path):
    with replaced(tmp_path / "a") as temporary:
        left = temporary
        temporary.write_text("whole")
    left.mkdir()
    with replaced(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a").read_text() == "new"
    assert not left.exists()
