import pytest
import torch

from models.fusion.contextual import ContextualConfig, ContextualFusion
from tests.models.fusion.examples import everything, outputs

SIZES = {"audio": 3, "text": 4}


def test_each_utterance_depends_on_those_before_and_after() -> None:
    fusion = ContextualFusion(ContextualConfig(hidden=4), SIZES)
    inputs = outputs({"audio": [5], "text": [5]}, SIZES)
    inputs["text"].sequence.requires_grad_(True)
    sequence = fusion(inputs, everything(inputs)).sequence
    assert sequence is not None
    sequence.sequence[0, 2].sum().backward()
    gradient = inputs["text"].sequence.grad
    assert gradient is not None
    assert (gradient[0].abs().sum(1) > 0).all()


def test_without_hierarchy_one_network_reads_the_utterances_themselves() -> None:
    fusion = ContextualFusion(ContextualConfig(hidden=4, hierarchical=False), SIZES)
    inputs = outputs({"audio": [5, 3], "text": [5, 3]}, SIZES)
    output = fusion(inputs, everything(inputs))
    wanted = fusion.rnn(torch.cat([inputs["audio"].sequence, inputs["text"].sequence], 2), torch.tensor([5, 3]))
    torch.testing.assert_close(output.fused, wanted.pooled)


def test_with_hierarchy_it_reads_each_modality_in_its_context() -> None:
    fusion = ContextualFusion(ContextualConfig(hidden=4), SIZES)
    inputs = outputs({"audio": [5, 3], "text": [5, 3]}, SIZES)
    lengths = torch.tensor([5, 3])
    contexts = [fusion.contexts[name](inputs[name].sequence, lengths).sequence for name in SIZES]
    torch.testing.assert_close(
        fusion(inputs, everything(inputs)).fused, fusion.rnn(torch.cat(contexts, 2), lengths).pooled
    )


def test_unequal_numbers_of_utterances_are_named() -> None:
    fusion = ContextualFusion(ContextualConfig(hidden=4), SIZES)
    inputs = outputs({"audio": [5, 3], "text": [5, 2]}, SIZES)
    with pytest.raises(ValueError, match="row 1 has 3 of audio, 2 of text"):
        fusion(inputs, everything(inputs))
    absent = torch.tensor([[True, True], [True, False]])
    assert fusion(inputs, absent).sequence.lengths.tolist() == [5, 3]
