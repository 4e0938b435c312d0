"""Words, voices and their split, and the rendering of every word by every voice.

    python speech.py --cache speech.npz

The speech is synthesised by three free synthesisers that Debian packages (see packages.txt): eSpeak NG (formant
synthesis, in many speaker variants and English accents), Flite (recorded speakers) and Festival (recorded speakers).
A clip is one word, 16 kHz mono, cut to where it sounds.
"""

import argparse
import concurrent.futures
import os
import subprocess
import tempfile
import wave

import numpy as np

RATE = 16000  # samples a second
LENGTH = 16000  # samples of one input of the network

KEYWORDS = "yes no up down left right on off stop go forward backward".split()
LABELS = KEYWORDS + ["unknown", "silence"]
UNKNOWN, SILENCE = LABELS.index("unknown"), LABELS.index("silence")

# Words the network learns to call unknown. The second list is never heard in training: it tells how well "unknown"
# stands for any other word.
OTHER_WORDS = (
    "zero one two three four five six seven eight nine bed bird cat dog happy house tree wow visual follow learn water"
    " music kitchen window table morning yellow garden paper doctor summer number river button engine so yet lift top"
    " town wall light come good back word for"
).split()
NEW_WORDS = "marvin sheila hello planet silver monday bridge coffee red bottle".split()

# -------------------------------------------------------------------- voices

ACCENTS = (
    "en-us en-gb en-gb-scotland en-gb-x-gbclan en-gb-x-rp en-gb-x-gbcwmd en-029 en-us-nyc"
).split()

# Whole voices are held out. A name that differs from another only by its last digit is the same design, except for the
# numbered series m1..m8 and f1..f5, so none of those families is cut in two. The speaker "slt" lent her voice to both
# Flite and Festival and is held out of both.
TEST_VARIANTS = "f2 f5 m3 m7 Alicia Annie Michael linda paul victor".split()
VALID_VARIANTS = "f4 m6 Andy belinda".split()
TRAIN_VARIANTS = (
    "f1 f3 m1 m2 m4 m5 m8 Alex Andrea Denis Diogo Gene Gene2 Henrique Hugo Jacky Lee Marco Mario Mike Nguyen"
    " RicishayMax RicishayMax2 RicishayMax3 Storm adam anika announcer antonio aunty benjamin boris caleb david ed"
    " edward edward2 grandma grandpa gustave iven iven2 iven3 iven4 john klatt klatt2 klatt3 klatt4 klatt5 klatt6"
    " marcelo max michel miguel norbert pablo pedro quincy rob robert sandro shelby steph steph2 steph3 travis zac"
).split()
SPLIT = {f"espeak-{v}": "test" for v in TEST_VARIANTS}
SPLIT |= {f"espeak-{v}": "valid" for v in VALID_VARIANTS}
SPLIT |= {f"espeak-{v}": "train" for v in TRAIN_VARIANTS}
SPLIT |= {f"flite-{v}": "train" for v in ("awb", "kal", "kal16", "rms")}
SPLIT |= {"flite-slt": "test", "festival-slt": "test", "festival-kal": "train", "festival-ked": "valid"}
FESTIVAL = {"kal": "kal_diphone", "ked": "ked_diphone", "slt": "cmu_us_slt_arctic_hts"}

# Festival's English voices are few. Recorded speakers of other languages say the words as their languages spell those
# sounds: (Festival's name, encoding of its texts, spelling, how much more slowly than it would by itself).
FOREIGN_WORDS = KEYWORDS + (
    "one two three four five six seven eight nine bed cat dog happy house tree water music table garden paper doctor"
    " summer number button engine top town wall light come good back word"
).split()
ITALIAN = (
    "ies no ap daun left rait on of stop go foruord becuord uan tu tri for faiv sics seven eit nain bed chet dog epi aus"
    " tri uoter miusic teibol garden peiper doctor samer namber baton engin top taun uol lait cam gud bec uord"
).split()
CZECH = (
    "jes nou ap daun left rajt on of stop gou forvrd bekvrd van tu tri for fajv siks sevn ejt najn bed ket dog hepi haus"
    " tri votr mjuzik tejbl gardn pejpr doktr samr nambr batn endzin top taun vol lajt kam gud bek vord"
).split()
FINNISH = (
    "jes nou ap daun left rait on of stop gou foorvöd bäkvöd van tuu trii foor faiv siks seven eit nain bed kät dog häpi"
    " haus trii vooter mjuusik teibol gaarden peiper doktor samer namber baton endsin top taun vool lait kam gud bäk vöd"
).split()
FOREIGN = {
    "lp": ("lp_diphone", "latin-1", ITALIAN, 1.6),
    "pc": ("pc_diphone", "latin-1", ITALIAN, 1.4),
    "dita": ("czech_dita", "iso-8859-2", CZECH, 1.5),
    "krb": ("czech_krb", "iso-8859-2", CZECH, 1.2),
    "machac": ("czech_machac", "iso-8859-2", CZECH, 1.2),
    "ph": ("czech_ph", "iso-8859-2", CZECH, 1.2),
    "lj": ("suo_fi_lj_diphone", "latin-1", FINNISH, 1.4),
    "mv": ("hy_fi_mv_diphone", "latin-1", FINNISH, 0.8),
}
SPLIT |= {f"foreign-{v}": "train" for v in FOREIGN}

# How often a voice says a keyword and another word in training; held-out voices say every word TEST_TAKES times, and
# recorded ones twice as often.
ESPEAK_TAKES, RECORDED_TAKES, FOREIGN_TAKES, TEST_TAKES = (10, 3), (40, 20), (10, 4), 4


def read_wav(path):
    """Samples int16 [n] of a mono 16-bit file, and its sample rate."""
    with wave.open(path) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2"), file.getframerate()


def resample(x, ratio):
    """`x` [n] at `ratio` times its sample rate, band-limited: a cut or a longer spectrum. float32 [n * ratio]."""
    n = len(x)
    # Padding keeps the end from wrapping around to the beginning.
    padded = 1 << (n + 512).bit_length()
    out = int(round(padded * ratio))
    spectrum = np.fft.rfft(x, padded)
    bins = min(len(spectrum), out // 2 + 1)
    y = np.fft.irfft(spectrum[:bins], out) * (out / padded)
    return y[: int(round(n * ratio))].astype(np.float32)


def trim(x):
    """`x` [n] without what is 40 dB below its loudest 10 ms at either end, but for 20 ms of it. float32 [m]."""
    block = RATE // 100
    frames = np.square(x[: len(x) // block * block].reshape(-1, block)).mean(1)
    loud = np.flatnonzero(frames > frames.max() * 1e-4)
    return x[max(loud[0] - 2, 0) * block : (loud[-1] + 3) * block]


def espeak(variant, word, rng, path):
    """Says a word into a file, with a random accent, speed (words a minute) and pitch (0 to 99)."""
    accent, speed, pitch = rng.choice(ACCENTS), rng.integers(120, 221), rng.integers(25, 76)
    command = ["espeak-ng", "-v", f"{accent}+{variant}", "-s", str(speed), "-p", str(pitch), "-w", path, word]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def flite(voice, word, rng, path):
    """Says a word into a file, with a random speed and pitch."""
    stretch, mean = rng.uniform(0.75, 1.35), (180 if voice == "slt" else 105) * rng.uniform(0.8, 1.3)
    settings = ["--setf", f"duration_stretch={stretch:.3f}", "--setf", f"int_f0_target_mean={mean:.1f}"]
    subprocess.run(["flite", "-voice", voice, *settings, "-t", word, "-o", path], check=True)


def festival_script(text, stretch, path):
    """What lets Festival say a text into a file, `stretch` times as slowly as the voice does by itself."""
    return f"""
      (Parameter.set 'Duration_Stretch {stretch:.3f})
      (utt.save.wave (utt.synth (Utterance Text "{text}")) "{path}" 'riff)"""


def festival(voice, word, rng, path):
    """Script of one take, with a random speed and, where the voice has such a setting, pitch."""
    stretch, mean = rng.uniform(0.75, 1.35), rng.uniform(85, 140)
    model = "(model_f0_mean 170) (model_f0_std 34)"
    pitch = f"(set! int_lr_params '((target_f0_mean {mean:.1f}) (target_f0_std 14) {model}))"
    return pitch + festival_script(word + rng.choice([".", "!", "?"]), stretch, path)


def foreign(voice, word, rng, path):
    """Script of one take in another language's spelling, with a random speed."""
    _, _, spelling, slowly = FOREIGN[voice]
    return festival_script(spelling[FOREIGN_WORDS.index(word)], slowly * rng.uniform(0.75, 1.3), path)


def speak(voice, takes, folder):
    """A voice says every (word, rng) of `takes`; the paths of the files."""
    engine, name = voice.split("-", 1)
    paths = [os.path.join(folder, f"{i}.wav") for i in range(len(takes))]
    if engine in ("espeak", "flite"):
        for (word, rng), path in zip(takes, paths):
            {"espeak": espeak, "flite": flite}[engine](name, word, rng, path)
        return paths
    # Festival takes longer to start than to speak: ten takes a run. Some voices crash at some takes; what they leave
    # unsaid is left out.
    if engine == "festival":
        voice_name, encoding, script = FESTIVAL[name], "ascii", festival
    else:
        (voice_name, encoding, _, _), script = FOREIGN[name], foreign
    lines = [script(name, word, rng, path) for (word, rng), path in zip(takes, paths)]
    for i in range(0, len(lines), 10):
        text = "\n".join([f"(voice_{voice_name})", *lines[i : i + 10]])
        subprocess.run(["festival", "--pipe"], input=text.encode(encoding), stderr=subprocess.DEVNULL)
    return paths


def is_whole(path):
    """Whether the file at `path` is there and was written to its end."""
    return os.path.exists(path) and os.path.getsize(path) > 44


def clip_of(path):
    """The clip in a file, int16 [n] at 16 kHz with a peak of half the range."""
    x, rate = read_wav(path)
    x = x.astype(np.float32)
    x = trim(resample(x, RATE / rate) if rate != RATE else x)
    return np.round(x * (16384 / np.abs(x).max())).astype(np.int16)


def takes_of(voice):
    """Every (word, how often) that a voice says."""
    engine = voice.split("-")[0]
    if SPLIT[voice] != "train":
        words = KEYWORDS + OTHER_WORDS + (NEW_WORDS if SPLIT[voice] == "test" else [])
        return [(w, TEST_TAKES if engine == "espeak" else 2 * TEST_TAKES) for w in words]
    keyword, other = {"espeak": ESPEAK_TAKES, "foreign": FOREIGN_TAKES}.get(engine, RECORDED_TAKES)
    words = FOREIGN_WORDS if engine == "foreign" else KEYWORDS + OTHER_WORDS
    return [(w, keyword if w in KEYWORDS else other) for w in words]


def render_voice(voice):
    """All clips of a voice: (words [n], clips [n])."""
    number = sorted(SPLIT).index(voice)
    words = [w for w, count in takes_of(voice) for _ in range(count)]
    takes = [(w, np.random.default_rng([number, i])) for i, w in enumerate(words)]
    with tempfile.TemporaryDirectory() as folder:
        said = [(w, path) for w, path in zip(words, speak(voice, takes, folder)) if is_whole(path)]
        return [w for w, _ in said], [clip_of(path) for _, path in said]


def load_speech(cache):
    """The rendered speech, from the cache or rendered into it.

    A dict: samples int16 [all clips, one after another], start int64 [clips + 1], word, voice and part str [clips].
    """
    if not os.path.exists(cache):
        words, voices, clips = [], [], []
        with concurrent.futures.ProcessPoolExecutor(2) as pool:
            for voice, (w, c) in zip(sorted(SPLIT), pool.map(render_voice, sorted(SPLIT))):
                print(f"{voice}: {len(c)} clips", flush=True)
                words += w
                voices += [voice] * len(w)
                clips += c
        np.savez(
            cache,
            samples=np.concatenate(clips),
            start=np.cumsum([0] + [len(c) for c in clips]),
            word=np.array(words),
            voice=np.array(voices),
            part=np.array([SPLIT[v] for v in voices]),
        )
    with np.load(cache) as file:
        return dict(file)


def clip(speech, i):
    """Clip `i`, float32 [n] with a peak of 0.5."""
    return speech["samples"][speech["start"][i] : speech["start"][i + 1]].astype(np.float32) / 32768


def label_of(word):
    """The class of a word."""
    return LABELS.index(word) if word in KEYWORDS else UNKNOWN


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", default="speech.npz", help="rendered speech")
    args = parser.parse_args()
    speech = load_speech(args.cache)
    for part in ("train", "valid", "test"):
        mine = speech["part"] == part
        voices = sorted(set(speech["voice"][mine]))
        seconds = np.diff(speech["start"])[mine] / RATE
        print(f"{part}: {mine.sum()} clips of {len(voices)} voices, {seconds.sum() / 3600:.1f} hours")
        print(f"  longest {seconds.max():.2f} s, {(seconds > 1).mean():.2%} longer than a second")


if __name__ == "__main__":
    main()
