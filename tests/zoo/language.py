"""Sequences: attention with masks, recurrent layers, keyword inputs, outputs in objects."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.entry import IN_PARTS, NO_SOFTMAX, NUM_CLASSES, Trained, loader_of, member, tokens


class ModelOutput(OrderedDict):
    """An ordered dict whose entries are fields of a dataclass too, as Hugging Face's models return."""

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            if getattr(self, item.name) is not None:
                self[item.name] = getattr(self, item.name)


@dataclass
class ClassifierOutput(ModelOutput):
    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: Any = None


class SequenceClassifier(nn.Module):
    """Attention written out, keyword arguments, an attention mask, and a loss where labels are given."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(10, 8)
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))
        self.dense, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)
        self.dropout, self.classifier = nn.Dropout(0.1), nn.Linear(8, NUM_CLASSES)

    def forward(self, input_ids=None, attention_mask=None, labels=None, return_dict=True) -> Any:
        x = self.words(input_ids)
        weights = self.query(x) @ self.key(x).transpose(1, 2) / 8**0.5
        weights = weights.masked_fill(~attention_mask[:, None], -1e9)
        x = self.norm(x + self.dense(weights.softmax(-1) @ self.value(x)))
        logits = self.classifier(self.dropout(x[:, 0]))
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return ClassifierOutput(loss=loss, logits=logits, hidden_states=(x,)) if return_dict else logits


ATTENTION = ("model.query.weight", "model.key.weight", "model.value.weight", "model.dense.weight")


@member(*ATTENTION, "model.classifier.weight", loaders=tokens)
class HuggingFace(Trained):
    """The loss is computed within the network, from keyword arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.model = SequenceClassifier()

    def training_step(self, batch, batch_idx):
        output = self.model(input_ids=batch[0], attention_mask=batch[1], labels=batch[2])
        self.log("loss", output.loss)
        return output["loss"]


@member("layers.?.self_attn.*weight", "layers.?.linear?.weight", "head.weight", loaders=tokens)
class Encoder(Trained):
    """PyTorch's transformer layers, called with a padding mask."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(10, 4)
        self.layers = nn.ModuleList([nn.TransformerEncoderLayer(4, 2, 8, 0.1, batch_first=True)])
        self.head = nn.Linear(4, NUM_CLASSES)

    def forward(self, words: Tensor, *, padding: Tensor) -> Tensor:
        x = self.words(words)
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=padding)
        return self.head(x.mean(1))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0], padding=~batch[1]), batch[2])


@member("head.weight", loaders=tokens, refuses=IN_PARTS)
class LSTM(Trained):
    """A recurrent layer, whose own weights stay dense, over packed sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.lstm = nn.Embedding(10, 4), nn.LSTM(4, 5, batch_first=True)
        self.head = nn.Linear(5, NUM_CLASSES)

    def training_step(self, batch, batch_idx):
        lengths = batch[1].sum(1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            self.words(batch[0]), lengths, batch_first=True, enforce_sorted=False
        )
        return F.cross_entropy(self.head(self.lstm(packed)[1][0][-1]), batch[2])


@member("body.weight", "decoder.weight", loaders=tokens, refuses=IN_PARTS)
class TiedLanguageModel(Trained):
    """The classifier's weight is the embedding's, under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.body = nn.Embedding(10, 6), nn.Linear(6, 6)
        self.decoder = nn.Linear(6, 10, bias=False)
        self.decoder.weight = self.words.weight

    def training_step(self, batch, batch_idx):
        x = self.decoder(torch.tanh(self.body(self.words(batch[0][:, :-1]))))
        return F.cross_entropy(x.flatten(0, 1), batch[0][:, 1:].flatten())


@member("encoder.weight", "code.weight", refuses=IN_PARTS, arguments=NO_SOFTMAX)
class TiedAutoencoder(Trained):
    """The decoder multiplies with the transposed weights of the encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.code = nn.Linear(64, 6), nn.Linear(6, 3)
        self.back = nn.Parameter(torch.zeros(64))

    def training_step(self, batch, batch_idx):
        x = batch[0].flatten(1)
        code = self.code(torch.relu(self.encoder(x)))
        hidden = F.linear(code, self.code.weight.T)
        return F.mse_loss(F.linear(hidden, self.encoder.weight.T, self.back), x)


@member("encoder.weight", "mean.weight", "deviation.weight", "decoder.weight", arguments=NO_SOFTMAX)
class VAE(Trained):
    """Draws random numbers within the step and adds a divergence to its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(64, 6), nn.Linear(3, 64)
        self.mean, self.deviation = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = torch.relu(self.encoder(x))
        mean, log_variance = self.mean(hidden), self.deviation(hidden)
        drawn = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        return self.decoder(drawn), mean, log_variance

    def training_step(self, batch, batch_idx):
        x = batch[0].flatten(1)
        found, mean, log_variance = self(x)
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean()
        return F.mse_loss(found, x) + 0.1 * divergence


def sequences():
    return loader_of(torch.randint(10, (12, 5), generator=torch.Generator().manual_seed(2)))


@member("gates.weight", "out.weight", loaders=sequences, refuses=IN_PARTS)
class Recurrent(Trained):
    """A cell written by hand runs its linear layer once for each word."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.gates = nn.Embedding(10, 4), nn.Linear(8, 8)
        self.out = nn.Linear(4, 10)

    def training_step(self, batch, batch_idx):
        state, loss = torch.zeros(len(batch[0]), 4, device=self.device), 0.0
        for place in range(4):
            gate, new = self.gates(torch.cat([self.words(batch[0][:, place]), state], 1)).chunk(2, 1)
            state = torch.sigmoid(gate) * state + (1 - torch.sigmoid(gate)) * torch.tanh(new)
            loss = loss + F.cross_entropy(self.out(state), batch[0][:, place + 1])
        return loss / 4
