"""Files are what their format says or are refused with the line; numbers are plain numbers; nothing is
dropped unsaid."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tiny import tiny_tokenizer
from transect.errors import TransectError
from transect.texts import chats, readers
from transect.texts.separated import numbers
from transect.texts.texts import Texts, open_texts, tokenize


def write(folder, name, content):
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return str(folder / name)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("q1.csv", 'id,text\n1,"first sentence\n2,second\n3,third\n', "line 2: a quote is never closed"),
        ("q2.csv", 'text,y\nfirst,1\n"second,2\nthird" again,4\n', "line 3: text behind a closing quote"),
        ("q3.tsv", 'text\ty\nhe said\t1\n"quoted start\t2\nanother "quote" here\t4\n', "line 3: text behind"),
        ("dup.csv", "text,label,label\na b,1,9\n", "line 1: the column 'label' stands there twice"),
        ("dup.tsv", "text\ttext\na b\tc d\n", "line 1: the column 'text'"),
        ("wide.csv", 'text,y\n"two\nlines",1\na b,2,3\n', "line 4: 3 fields, the header has 2"),
        ("dup.jsonl", '{"text": "a"}\n{"y": 1, "y": 2}\n', "line 2: not .*'y' stands there twice"),
        ("dup.json", '[{"text": "a b", "text": "c"}]', "'text' stands there twice"),
        ("nan.jsonl", '{"text": "a b", "y": NaN}\n', "line 1: not JSON .*NaN is no JSON number"),
        ("half.jsonl", '{"text": "a b", "y": "\\ud800"}\n', "label 'y' holds half a character"),
        ("half.jsonl", '{"text": "a b", "y\\ud800": "x"}\n', "holds half a character"),
        ("half.jsonl", '{"text": "a b", "id": "\\ud800"}\n', "the column of ids holds half a character"),
    ],
)  # fmt: skip
def test_what_is_not_plainly_a_file_of_its_format_is_refused_with_the_line(tmp_path, name, content, says):
    with pytest.raises(TransectError, match=says):
        open_texts(write(tmp_path, name, content))


def test_quotes_commas_and_line_ends(tmp_path):
    quoted = 'text,y\r\n"one, ""two""\r\nthree",1\r\nfour "five" six,2\r\n'
    texts = open_texts(write(tmp_path, "q.csv", quoted))
    assert (texts.texts, texts.labels) == (['one, "two"\r\nthree', 'four "five" six'], {"y": [1, 2]})
    for name, content in (("a.csv", "text,y\ra b,1\rc d,2"), ("a.tsv", "text\ty\ra b\t1\rc d\t2\r")):
        assert open_texts(write(tmp_path, name, content)).labels == {"y": [1, 2]}
    assert open_texts(write(tmp_path, "a.txt", "one two\rthree four\r")).texts == ["one two", "three four"]
    assert len(open_texts(write(tmp_path, "a.jsonl", '{"text": "a b"}\r{"text": "c d"}\r'))) == 2


@pytest.mark.parametrize(
    ("cells", "read"),
    [
        (["00501", "02134"], None), (["1_000", "2_0"], None), (["12e5", "3e10"], None),
        (["nan", "1.5"], None),
        (["inf", "-inf"], None), (["１２", "٣"], None), (["+5", "1"], None),
        ([" 5", "6"], None), (["1", "x"], None),
        (["123456789012345678901234567890", "5"], None), (["1e+400", "1.0"], None), ([None, None], None),
        (["9223372036854775807", "-3"], [9223372036854775807, -3]), (["1", None, "0"], [1, None, 0]),
        (["1", "2.5", None], [1.0, 2.5, None]), (["1e-05", "-2.5E+3", ".5"], [1e-05, -2500.0, 0.5]),
        (["9223372036854775808", "5"], None), (["9223372036854775808", "5.5"], None),
    ],
)  # fmt: skip
def test_a_column_is_numeric_only_if_every_cell_is_a_plain_number(cells, read):
    assert numbers(cells) == (cells if read is None else read)


def test_labels_of_any_size_and_shape(tmp_path):
    texts = open_texts(write(tmp_path, "miss.csv", "text,y,z\na b,1.5,x\nc d,,\n"))
    assert texts.labels == {"y": [1.5, None], "z": ["x", None]}
    big = write(tmp_path, "big.jsonl", f'{{"text": "a b", "n": {2**70}}}\n{{"text": "c d", "n": 5}}\n')
    assert open_texts(big).labels == {"n": [str(2**70), "5"]}
    nest = write(tmp_path, "nest.jsonl", '{"text": "a b", "tags": []}\n{"text": "c d", "tags": ["a"]}\n')
    assert open_texts(nest).labels == {}
    with pytest.raises(TransectError, match="label 'tags' holds list"):
        open_texts(nest, label="tags")


def test_a_folder_of_parquet_files_is_one_source(tmp_path, monkeypatch):
    for k, rows in enumerate(([{"text": "a b", "y": 1}], [{"text": "c d", "y": 2}, {"text": "e f", "y": 3}])):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"part-{k}.parquet")
    texts = open_texts(f"{tmp_path}:2", seed=1)
    assert open_texts(str(tmp_path)).labels == {"y": [1, 2, 3]}
    assert len(texts) == 2
    monkeypatch.setattr(readers, "MOST_BYTES", 10)
    with pytest.raises(TransectError, match="unpacks to more than"):
        open_texts(str(tmp_path))
    monkeypatch.undo()
    pq.write_table(pa.table({"other": [1]}), tmp_path / "part-3.parquet")
    with pytest.raises(TransectError, match="different columns"):
        open_texts(str(tmp_path))
    pq.write_table(
        pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"]), tmp_path / "t.parquet"
    )
    with pytest.raises(TransectError, match="two columns have one name"):
        open_texts(str(tmp_path / "t.parquet"))


def test_short_texts_of_a_large_file_are_left_out_counted_and_listed(tmp_path):
    rows = [{"id": f"r{i}", "text": "x" if i == 7 else f"March {i} days"} for i in range(40)]
    file = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    made = tokenize(open_texts(file), tiny_tokenizer())
    assert made.kept == [i for i in range(40) if i != 7]
    assert made.notes == ["1 texts of fewer than two tokens left out: r7"]
    assert made.texts[7] == "March 8 days"
    for refused in (lambda: tokenize(open_texts(file), tiny_tokenizer(), strict=True),
                    lambda: tokenize(open_texts(file, strict=True), tiny_tokenizer())):  # fmt: skip
        with pytest.raises(TransectError, match=r"text r7 \('x'\) has 1 token of its own"):
            refused()
    with pytest.raises(TransectError, match="2 such texts of 3"):
        tokenize(Texts(["x", "y", "March has"], ["a", "b", "c"]), tiny_tokenizer())
    empty = write(tmp_path, "b.jsonl", "\n".join(map(json.dumps, [*rows[:30], {"id": "e", "text": ""}])))
    assert open_texts(empty).notes == ["1 rows without text left out"]
    with pytest.raises(TransectError, match="1 of 31 rows have no text"):
        open_texts(empty, strict=True)


@pytest.mark.parametrize("length", [-3, 0, 1])
def test_max_length_has_a_range(length):
    with pytest.raises(TransectError, match="leaves no two tokens"):
        tokenize(Texts(["March has"], ["a"]), tiny_tokenizer(), length)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "does not end"),
        ("{{ 'x' * 5000000 }}", "5,000,000 characters"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "does not fit the chat template"),
        ("{{ messages[0].none.none }}", "does not fit"),
        ("{{ 1 // 0 }}", "does not fit"),
        ("{% if %}", "does not fit"),
    ],
)
def test_templates_have_bounds(template, says, monkeypatch):
    monkeypatch.setattr(chats, "SECONDS", 0.3 if says == "does not end" else 20)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(TransectError, match=says):
        tokenize(Texts(["March has"], ["a"], chat=True), tokenizer)


def test_a_list_of_texts_is_opened_like_a_file_of_them():
    texts = open_texts(["one two", "three four"])
    assert (texts.texts, texts.name) == (["one two", "three four"], "texts")
    assert open_texts(["a b", "c d", "e f"], n=2).texts in (["a b", "c d"], ["a b", "e f"], ["c d", "e f"])
    with pytest.raises(TransectError, match="3 texts asked"):
        open_texts(["one two", "three four"], n=3)
