"""One-second sounds made of words, rooms and noise, and their log-mel frames.

The frames come from the Rust front end itself (`audio/`), through its example `features`, so that the network hears in
training what it hears on a device.
"""

import os
import subprocess

import numpy as np

from speech import LABELS, LENGTH, NEW_WORDS, OTHER_WORDS, RATE, SILENCE, UNKNOWN, clip, label_of

# Parameters of the front end (kinglet_audio::LogMelConfig) and the normalisation of its frames.
WINDOW, HOP, MELS, FMIN, FMAX, FLOOR = 512, 320, 40, 60, 7600, 1e-4
FRAMES = (LENGTH - WINDOW) // HOP + 1
MEAN, STD = -5.0, 4.0

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
NOISES = ["white", "pink", "brown", "hum", "babble"]
TRANSFORM = 32768  # of a word and the longest room after it


def front_end():
    """Path of the program that turns samples into frames, built if need be."""
    manifest = os.path.join(ROOT, "Cargo.toml")
    command = ["cargo", "build", "-q", "--release", "-p", "kinglet-audio", "--example", "features"]
    subprocess.run([*command, "--manifest-path", manifest], check=True)
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    return os.path.join(target, "release", "examples", "features")


def features(samples, program):
    """Log-mel frames float32 [n, FRAMES, MELS] of samples int16 [n, LENGTH]."""
    settings = [RATE, WINDOW, HOP, MELS, FMIN, FMAX, FLOOR, LENGTH]
    data = samples.astype("<i2").tobytes()
    done = subprocess.run([program, *map(str, settings)], input=data, check=True, stdout=subprocess.PIPE)
    return np.frombuffer(done.stdout, "<f4").reshape(-1, FRAMES, MELS)


def normalise(frames):
    """Frames to network input, same shape."""
    return (frames - np.float32(MEAN)) / np.float32(STD)


def rms(x):
    return float(np.sqrt(np.square(x).mean()) + 1e-9)


def coloured(n, power, rng):
    """Noise of `n` samples whose power falls with frequency to the given power, with a root mean square of 1."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    f = np.maximum(np.fft.rfftfreq(n, 1 / RATE), 30)
    y = np.fft.irfft(spectrum * f ** (-power / 2), n)
    return (y / rms(y)).astype(np.float32)


def room(rng):
    """Spectrum of a room: the direct sound, and noise that falls by 60 dB within 0.1 to 0.7 seconds."""
    decay = rng.uniform(0.1, 0.7)
    t = np.arange(int(decay * RATE)) / RATE
    tail = rng.standard_normal(len(t)) * np.exp(-6.9 * t / decay)
    tail[: int(rng.uniform(0.001, 0.01) * RATE)] = 0
    tail *= 10 ** (rng.uniform(-12, 3) / 20) / np.sqrt(np.square(tail).sum())
    tail[0] = 1
    return np.fft.rfft(tail, TRANSFORM)


class Sounds:
    """Draws sounds from one part of the speech, with rooms and noise of its own."""

    def __init__(self, speech, part, seed):
        self.speech = speech
        rng = np.random.default_rng([seed, 0])
        mine = np.flatnonzero(speech["part"] == part)
        self.augment = part == "train"
        self.words, self.voices = speech["word"], speech["voice"]
        self.recorded = np.array([not v.startswith("espeak") for v in self.voices])
        self.clips = mine
        # Clips by word, then by whether their voices were recorded, then by voice.
        self.groups = {word: ({}, {}) for word in sorted(set(self.words[mine]))}
        for i in mine:
            self.groups[self.words[i]][int(self.recorded[i])].setdefault(self.voices[i], []).append(i)
        self.others = mine[np.isin(self.words[mine], OTHER_WORDS)]
        n = 30 * RATE
        self.noise = {"white": coloured(n, 0, rng), "pink": coloured(n, 1, rng), "brown": coloured(n, 2, rng)}
        self.noise["babble"] = np.concatenate([self.babble(rng) for _ in range(40)])
        self.rooms = [room(rng) for _ in range(200)]

    def babble(self, rng, seconds=3):
        """Six voices talking at once, with a root mean square of 1."""
        total = np.zeros(seconds * RATE, np.float32)
        for _ in range(6):
            at = -int(rng.integers(2000))
            while at < len(total):
                word = clip(self.speech, rng.choice(self.others))
                start, end = max(at, 0), max(min(at + len(word), len(total)), 0)
                total[start:end] += word[start - at : start - at + end - start] / rms(word)
                at += len(word) + rng.integers(4000)
        return total / rms(total)

    def background(self, kind, rng):
        """A second of noise with a root mean square of 1, float32 [LENGTH]."""
        if kind == "hum":
            t, mains = np.arange(LENGTH) / RATE, rng.choice([50, 60]) * rng.uniform(0.99, 1.01)
            waves = [np.sin(2 * np.pi * (k * mains * t + rng.random())) * rng.random() / k for k in range(1, 9)]
            hum = np.sum(waves, 0) + 0.02 * rng.standard_normal(LENGTH)
            return (hum / rms(hum)).astype(np.float32)
        bank = self.noise[kind]
        start = rng.integers(len(bank) - LENGTH)
        return bank[start : start + LENGTH]

    def word(self, i, rng):
        """Clip `i`; in training at another speed, which moves pitch and resonances too, as a larger or smaller head does."""
        x = clip(self.speech, i)
        if self.augment:
            step = np.exp(rng.uniform(-0.15, 0.25) if self.recorded[i] else rng.uniform(-0.15, 0.15))
            x = np.interp(np.arange(0, len(x) - 1, step), np.arange(len(x)), x).astype(np.float32)
        return x

    def place(self, x, rng):
        """The word `x` [n] somewhere in a second of silence; up to 50 ms may be cut off."""
        out = np.zeros(LENGTH, np.float32)
        slack = LENGTH - len(x)
        low, high = min(0, slack), max(0, slack)
        cut = RATE // 20 if self.augment else 0
        at = int(rng.integers(low - cut, high + cut + 1))
        start, end = max(at, 0), min(at + len(x), LENGTH)
        out[start:end] = x[start - at : end - at]
        return out

    def colour(self, x, reverberant, rng):
        """`x` through a microphone with a tilted response and, if asked for, a room. Same length."""
        spectrum = np.fft.rfft(x, TRANSFORM)
        if self.augment:
            octaves = np.log2(np.maximum(np.fft.rfftfreq(TRANSFORM, 1 / RATE), 60) / 1000)
            spectrum *= 10 ** (rng.uniform(-4, 4) * octaves / 20)
        if reverberant:
            spectrum *= self.rooms[rng.integers(len(self.rooms))]
        return np.fft.irfft(spectrum, TRANSFORM)[:LENGTH].astype(np.float32)

    def sound(self, i, noisy, rng):
        """A second with clip `i` in it, or with no word if `i` is None; int16 [LENGTH].

        A noisy one has a room in half of the cases and noise 5 to 20 dB below the word (0 to 30 dB in training).
        """
        if i is None:
            level = 10 ** (rng.uniform(-75, -25) / 20)
            x = self.background(rng.choice(NOISES[:4]), rng) * level
            if not noisy:
                x *= 10 ** (-20 / 20)
        else:
            x = self.word(i, rng)
            loudness = rms(x)
            x = self.place(x, rng)
            if noisy or self.augment:
                x = self.colour(x, noisy and rng.random() < 0.5, rng)
            if noisy:
                snr = rng.uniform(0, 30) if self.augment else rng.uniform(5, 20)
                x = x + self.background(rng.choice(NOISES), rng) * (loudness * 10 ** (-snr / 20))
            x *= 10 ** (rng.uniform(-30 if self.augment else -20, -1) / 20) / np.abs(x).max()
        return np.clip(np.round(x * 32767), -32768, 32767).astype(np.int16)

    def draw(self, label, rng):
        """A clip of a class, None for silence. Half of the draws are of recorded voices."""
        if label == SILENCE:
            return None
        word = rng.choice(OTHER_WORDS) if label == UNKNOWN else LABELS[label]
        voices = list(self.groups[word][rng.integers(2)].values())
        return rng.choice(voices[rng.integers(len(voices))])

    def random(self, n, rng):
        """`n` sounds of random classes, four fifths of them noisy: (samples int16 [n, LENGTH], labels int64 [n])."""
        weight = np.array([4.0 if c == UNKNOWN else 1.5 if c == SILENCE else 1.0 for c in range(len(LABELS))])
        labels = rng.choice(len(LABELS), n, p=weight / weight.sum())
        return np.stack([self.sound(self.draw(c, rng), rng.random() < 0.8, rng) for c in labels]), labels

    def every(self, noisy, rng):
        """Every clip of the part once, and 200 sounds without a word.

        (samples int16 [n, LENGTH], labels int64 [n], kinds str [n]): a kind is the voice, "new words", or "silence".
        """
        labels = np.array([label_of(self.words[i]) for i in self.clips] + [SILENCE] * 200)
        new = np.isin(self.words[self.clips], NEW_WORDS)
        kinds = np.where(new, "new words", self.voices[self.clips])
        samples = np.stack([self.sound(i, noisy, rng) for i in [*self.clips, *[None] * 200]])
        return samples, labels, np.concatenate([kinds, ["silence"] * 200])
