"""Run by test_sharding.py: two processes that split a pretrained network, and one that trains the same whole."""

import multiprocessing
import sys
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from tokenlm.agents import DQN
from tokenlm.agents.networks.sharding import is_sharded
from tokenlm.agents.replay.episodes import EpisodeReplay
from tokenlm.envs import EnvConfig, Vocabulary

TEXTS = tuple(" ".join(f"w{(i * j) % 11}" for j in range(1, 9)) for i in range(1, 40))
WORLD = EnvConfig(
    corpus=TEXTS, tokenizer="word", max_new_tokens=6, context_length=7, ending="eos", prompt_length=(0, 0)
)
SMALL = {"num_envs": 4, "batch_size": 4, "learning_starts": 0, "device": "cpu", "learning_rate": 1e-3}
CASES = {
    "llama": {},
    "gpt2": {"gradient_checkpointing": True},
    "llama, lora": {"lora_rank": 2, "weight_dtype": "bfloat16"},
}
UPDATES = 3


def make_models(folder):
    """Two tiny models and a tokenizer of single letters."""
    import tokenizers
    import transformers
    from tokenizers import models, pre_tokenizers

    torch.manual_seed(0)
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        special_tokens=["<end>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator(TEXTS, trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>")
    size = len(fast)
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    llama = transformers.LlamaConfig(
        vocab_size=size, hidden_size=16, intermediate_size=20, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, **ends,
    )  # fmt: skip
    gpt2 = transformers.GPT2Config(
        vocab_size=size, n_positions=40, n_embd=10, n_layer=2, n_head=2, attn_pdrop=0.0, embd_pdrop=0.0,
        resid_pdrop=0.0, **ends,
    )  # fmt: skip
    for name, model in (("llama", transformers.LlamaForCausalLM(llama)), ("gpt2", transformers.GPT2LMHeadModel(gpt2))):
        for parameter in model.parameters():
            parameter.data = parameter.data + 0.1 * torch.randn_like(parameter)
        model.save_pretrained(folder / name)
        fast.save_pretrained(folder / name)


def agent_of(folder, case, **more):
    network = {"name": "pretrained", "pretrained": str(folder / case.split(",")[0]), "sharded": True, **CASES[case]}
    return DQN(WORLD, network=network, **{**SMALL, **more})


def episodes(agent):
    """Eight episodes; the last five of them end at once, so one process has no state after an action."""
    generator = torch.Generator().manual_seed(3)
    actions = torch.randint(Vocabulary.FIRST_WORD, 12, (8, 6), generator=generator)
    replay = EpisodeReplay(8, 1, 6, agent.network.num_actions)
    replay.add(
        tokens=torch.cat([torch.full((8, 1), Vocabulary.BOS), actions], 1), actions=actions,
        rewards=-torch.rand(8, 6, generator=generator), prompt_lengths=torch.ones(8, dtype=torch.int64),
        lengths=torch.tensor([6, 2, 3, 1, 1, 1, 1, 1]), terminated=torch.tensor([False] * 3 + [True] * 5),
    )  # fmt: skip
    return replay


def trained(agent, rows, updates=UPDATES):
    """`agent` after some updates on the same episodes, and the norms of their gradients."""
    norms = []
    for _ in range(updates):
        norms.append(float(agent.learner.update(episodes(agent).rows(rows), 0.0)["grad_norm"]))
    return agent, norms


def weights(agent):
    return {name: tensor.clone() for name, tensor in agent.network.state_dict().items()}


def work(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(str(folder / "store"), 2), rank=rank, world_size=2)
    rows = (torch.arange(3), torch.arange(3, 8))[rank]
    results = {}
    for case in CASES:
        agent, norms = trained(agent_of(folder, case, max_grad_norm=0.05), rows)
        split = [p for p in agent.learner.trained.parameters() if is_sharded(p)]
        results[f"{case} parts"] = sum(p.to_local().numel() for p in split), sum(p.numel() for p in split)
        results[f"{case} norms"] = norms
        results[case] = weights(agent)
        state = agent.learner.state_dict()
        if rank == 0:
            torch.save(state, folder / f"{case}.pt")
        dist.barrier()
        again = agent_of(folder, case, max_grad_norm=0.05, seed=1)
        again.learner.load_state_dict(torch.load(folder / f"{case}.pt", weights_only=True))
        results[f"{case} again"] = weights(trained(again, rows, 2)[0])
        results[f"{case} two more"] = weights(trained(agent, rows, 2)[0])
    played = agent_of(folder, "llama").learn(64)
    results["played"] = weights(played)
    assert played.transitions_trained > 0
    if rank == 0:  # acting and saving need no other process
        played.save(folder / "saved")
        assert len(played.generate(["w1"])) == 1
    dist.barrier()
    for settings, why in (({"averaged": True}, "averaged"), ({"pretrain": 5}, "pretrain")):
        with pytest.raises(ValueError, match=why):
            agent_of(folder, "llama", **settings)
    torch.save(results, folder / f"results-{rank}")
    dist.destroy_process_group()


def close(one, other, what):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(
            tensor, other[name], rtol=1e-3, atol=2e-5, msg=lambda m, name=name: f"{what}, {name}: {m}"
        )


def main(folder):
    torch.set_num_threads(1)
    make_models(folder)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work, args=(rank, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    first, second = (torch.load(folder / f"results-{rank}", weights_only=True) for rank in range(2))
    for case in CASES:
        alone, norms = trained(agent_of(folder, case, max_grad_norm=0.05), torch.arange(8))
        assert all(norm > 0.05 for norm in norms)  # they are clipped
        torch.testing.assert_close(first[f"{case} norms"], norms, rtol=1e-3, atol=1e-5)
        close(first[case], weights(alone), case)
        parts, every = first[f"{case} parts"]
        assert parts + second[f"{case} parts"][0] == every > 0
        again = agent_of(folder, case, max_grad_norm=0.05, seed=2)  # a checkpoint of two processes, taken up by one
        again.learner.load_state_dict(torch.load(folder / f"{case}.pt", weights_only=True))
        close(weights(trained(again, torch.arange(8), 2)[0]), weights(trained(alone, torch.arange(8), 2)[0]), case)
        for name, tensor in first[f"{case} two more"].items():
            assert torch.equal(tensor, first[f"{case} again"][name]), name
            assert torch.equal(tensor, second[f"{case} two more"][name]), name
    print("equal")
    saved = DQN.load(folder / "saved", device="cpu")
    for name, tensor in saved.network.state_dict().items():
        assert torch.equal(tensor, first["played"][name]), name
        assert torch.equal(tensor, second["played"][name]), name
    print("saved")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(Path(place))
    sys.exit()
