//! A microphone behind an analogue-to-digital converter with SPI.

use embedded_hal::spi::SpiDevice;

/// A microphone whose converter gives 12 bits in 16, the upper ones 0: the ADCS7476 of Digilent's Pmod MIC3, and others like it. It is read at the sample rate, from
/// a timer's interrupt.
pub struct SpiMicrophone<SPI> {
    spi: SPI,
    /// The mean level of what was read, which is silence, times 2 to the power of [`SLOWLY`].
    silence: i32,
}

/// Binary logarithm of the samples over which silence is learnt.
const SLOWLY: u32 = 12;

impl<SPI: SpiDevice> SpiMicrophone<SPI> {
    /// One behind an SPI device that selects its chip.
    pub fn new(spi: SPI) -> Self {
        SpiMicrophone { spi, silence: 2048 << SLOWLY }
    }

    /// The next sample; what does not change is no sound.
    ///
    /// # Errors
    /// The device's.
    pub fn read(&mut self) -> Result<i16, SPI::Error> {
        let mut bytes = [0; 2];
        self.spi.read(&mut bytes)?;
        let level = i32::from(u16::from_be_bytes(bytes) & 0xfff);
        self.silence += level - (self.silence >> SLOWLY);
        let sample = (level - (self.silence >> SLOWLY)) << 4;
        Ok(sample.clamp(i16::MIN.into(), i16::MAX.into()) as i16)
    }

    /// The device.
    pub fn release(self) -> SPI {
        self.spi
    }
}

#[cfg(test)]
mod tests {
    use embedded_hal_mock::eh1::spi::{Mock, Transaction};

    use super::*;

    #[test]
    fn levels_become_samples_around_silence() {
        let reads = [0x0800u16, 0x0fff, 0x0000, 0xf800];
        let expected = reads.iter().flat_map(|level| {
            let bytes = level.to_be_bytes().to_vec();
            [Transaction::transaction_start(), Transaction::read_vec(bytes), Transaction::transaction_end()]
        });
        let mut microphone = SpiMicrophone::new(Mock::new(&expected.collect::<std::vec::Vec<_>>()));
        let got = reads.map(|_| microphone.read().expect("the mock answers"));
        assert_eq!(got, [0, 32752, -32752, 0]);
        microphone.release().done();
    }

    #[test]
    fn a_level_that_stays_is_silence() {
        let reads = std::vec![[Transaction::transaction_start(), Transaction::read_vec(std::vec![6, 0]), Transaction::transaction_end()]; 60_000].concat();
        let mut microphone = SpiMicrophone::new(Mock::new(&reads));
        let last = (0..60_000).map(|_| microphone.read().expect("the mock answers")).last();
        assert!(last.is_some_and(|sample| sample.abs() <= 16), "{last:?}");
        microphone.release().done();
    }
}
