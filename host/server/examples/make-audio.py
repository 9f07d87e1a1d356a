#!/usr/bin/env python3
"""Makes the demo's audio: prompts by espeak-ng from plugins/ivr-support/prompts.toml, music by sox.

The files are in the repository, so that the demo needs neither program; run this after a text has
changed. 8 kHz mu-law WAV, one file a prompt.
"""

import pathlib
import subprocess
import tempfile
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
PROMPTS = HERE.parents[2] / "plugins" / "ivr-support" / "prompts.toml"
OUT = HERE / "prompts"
FORMAT = ["-r", "8000", "-c", "1", "-e", "u-law"]


def speak(name, language, text):
    with tempfile.NamedTemporaryFile(suffix=".wav") as raw:
        subprocess.run(["espeak-ng", "-v", language, "-s", "165", "-w", raw.name, text], check=True)
        subprocess.run(
            ["sox", "-G", raw.name, *FORMAT, str(OUT / f"{name}.wav"), "norm", "-6", "pad", "0.05", "0.15"], check=True)


def music():
    """Four chords, plucked, that loop without a seam."""
    chords = [("C3", "E4", "G4", "C5"), ("A2", "C4", "E4", "A4"), ("F2", "A3", "C4", "F4"), ("G2", "B3", "D4", "G4")]
    with tempfile.TemporaryDirectory() as folder:
        bars = []
        for i, notes in enumerate(chords):
            bar = f"{folder}/{i}.wav"
            synth = [word for note in notes for word in ("pluck", note)]
            delays = [str(0.3 * n) for n in range(len(notes))]
            subprocess.run(
                ["sox", "-n", "-r", "16000", "-c", str(len(notes)), bar, "synth", "2.4", *synth,
                 "delay", *delays, "remix", "-", "trim", "0", "2.4", "fade", "0.01", "2.4", "0.2"], check=True)
            bars.append(bar)
        subprocess.run(["sox", *bars, *FORMAT, str(OUT / "music.wav"), "norm", "-12"], check=True)


def main():
    OUT.mkdir(exist_ok=True)
    with open(PROMPTS, "rb") as file:
        for prompt in tomllib.load(file)["prompt"]:
            speak(prompt["name"], prompt["language"], prompt["text"])
    music()


main()
