"""Encoder–decoder language models as Q-networks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...envs import Vocabulary
from .base import State
from .pairs import Pairs, inside, refuse_longer, widened
from .pretrained import PretrainedQNetwork


class PretrainedSeq2SeqQNetwork(PretrainedQNetwork):
    """T5, BART and similar models, for texts `<bos> source <sep> target`; see `PretrainedQNetwork` for the arguments.

    As in pretraining, the encoder's input is the source followed by the model's end of text, after `<bos>` if the model
    has one, and the decoder's input begins with the model's start token in place of `<sep>`. The source is encoded
    once. Each step decodes the whole target again, because caches of these models assume the same position in all rows.
    """

    def _take(self, model: Any) -> None:
        self.encoder, self.decoder = model.get_encoder(), model.get_decoder()
        self.reads_bos = getattr(model.config, "bos_token_id", None) is not None

    def _bodies(self) -> list[nn.Module]:
        return [self.encoder, self.decoder]

    def _probe(self, model: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
        memory = model.get_encoder()(input_ids=ids).last_hidden_state
        hidden = model.get_decoder()(input_ids=ids, encoder_hidden_states=memory, use_cache=False).last_hidden_state
        return hidden, model(input_ids=ids, decoder_input_ids=ids, use_cache=False).logits

    def forward(self, tokens: Tensor) -> Tensor:
        """See `QNetwork`; zeros before `<sep>`, ValueError if there is none."""
        refuse_longer(tokens.shape[1], self.max_length)
        pairs = Pairs.of(tokens)
        return pairs.placed(self._decode(pairs.target, *self._read_source(pairs)), tokens.shape[1])

    def encode(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
        """See `QNetwork`.

        The state is the encoder's output (B, max_length, D), its attention mask (B, max_length) bool, the target
        (B, max_length) and its length (B,).
        """
        refuse_longer(tokens.shape[1], self.max_length)
        pairs = Pairs.of(tokens)
        memory, is_read = self._read_source(pairs)
        written = lengths - pairs.source_lengths
        hidden = self._decode(pairs.target, memory, is_read)[
            torch.arange(len(tokens), device=tokens.device), written - 1
        ]
        kept = (widened(part, self.max_length, 1) for part in (memory, is_read, pairs.target))
        return hidden, (*kept, written)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See `QNetwork`. A target longer than `max_length` raises ValueError."""
        memory, is_read, target, written = state
        used = int(written.max()) + 1
        refuse_longer(used, self.max_length)
        rows = torch.arange(len(tokens), device=tokens.device)
        target[rows, written] = tokens
        width = int(is_read.sum(1).max()) + 1  # the mask may leave out `<bos>`
        hidden = self._decode(target[:, :used], memory[:, :width], is_read[:, :width])
        return hidden[rows, written], (memory, is_read, target, written + 1)

    def _read_source(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """(B, S + 1, D) output of the encoder, and (B, S + 1) bool, its attention mask."""
        source = torch.nn.functional.pad(pairs.source, (0, 1))
        rows = torch.arange(len(source), device=source.device)
        source[rows, pairs.source_lengths] = Vocabulary.EOS
        is_read = inside(pairs.source_lengths + 1, source.shape[1])
        if not self.reads_bos:
            is_read = is_read & (source != Vocabulary.BOS)
        memory = self.encoder(inputs_embeds=self._embed(source), attention_mask=is_read.long()).last_hidden_state
        return memory, is_read

    def _decode(self, target: Tensor, memory: Tensor, is_read: Tensor) -> Tensor:
        """(B, T, D) hidden vectors of the target."""
        # Padding needs no mask: it is on the right, and attention is causal.
        out = self.decoder(
            inputs_embeds=self._embed(target), encoder_hidden_states=memory, encoder_attention_mask=is_read.long(),
            use_cache=False,
        )  # fmt: skip
        return self._seen(out.last_hidden_state)
