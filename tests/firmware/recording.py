"""Words with pauses between them, for the microphone of the emulated board (targets/cortex-m/mps2/src/recording.rs).

    recording.py WAV... > FILE
"""

import struct
import sys
import wave

PAUSE = bytes(2 * 16_000)

samples = b""
for path in sys.argv[1:]:
    with wave.open(path) as sound:
        if (sound.getframerate(), sound.getsampwidth(), sound.getnchannels()) != (16_000, 2, 1):
            sys.exit(f"{path}: it has to have 16 bits at 16 kHz, one channel")
        samples += PAUSE + sound.readframes(sound.getnframes())
samples += PAUSE
sys.stdout.buffer.write(b"KWAV" + struct.pack("<I", len(samples) // 2) + samples)
