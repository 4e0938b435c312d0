//! Pictures and sounds for an input.

use kinglet_compiler::InputInfo;
use kinglet_native::OwnedSession;

use crate::audio::{self, AudioFlags, Sound};
use crate::error::{Error, Result};
use crate::image::{self, ImageFlags, Picture};
use crate::inputs::{self, Arrays};
use crate::model::{Source, input_name};

/// What one input is made of that is no array.
pub enum Media {
    /// A picture.
    Picture(Picture),
    /// A sound.
    Sound(Sound),
}

impl Media {
    /// Reads the picture or the sound that the flags name, for the one input that no array is given for.
    pub fn read(image: &ImageFlags, audio: &AudioFlags, arrays: &Arrays, source: &Source) -> Result<Option<Media>> {
        let declared = source.inputs();
        let free = |flag: &str| {
            let is_free = |i: &&InputInfo| !i.has_default && !arrays.contains_key(&i.name);
            let mut free = declared.iter().filter(is_free);
            if let (Some(input), None) = (free.next(), free.next()) {
                return Ok(input);
            }
            let names: Vec<&str> = declared.iter().filter(is_free).map(|i| i.name.as_str()).collect();
            let names = if names.is_empty() { "none".to_string() } else { names.join(", ") };
            Err(Error::usage(format!("{flag} is for the one input that no file is given for; here there are {names}")))
        };
        Ok(match (&image.image, &audio.audio) {
            (Some(path), _) => Some(Media::Picture(image::read(path, image, free("--image")?, source)?)),
            (None, Some(path)) => Some(Media::Sound(audio::read(path, free("--audio")?, source)?)),
            (None, None) => None,
        })
    }

    /// The input's name.
    pub fn name(&self) -> &str {
        match self {
            Media::Picture(p) => &p.name,
            Media::Sound(s) => &s.name,
        }
    }

    /// The input's shape.
    pub fn shape(&self) -> &[usize] {
        match self {
            Media::Picture(p) => &p.shape,
            Media::Sound(s) => &s.shape,
        }
    }

    /// How often the model runs on it.
    pub fn runs(&self) -> usize {
        match self {
            Media::Picture(_) => 1,
            Media::Sound(s) => s.windows.len(),
        }
    }

    /// Writes what run `run` is to see into its input.
    pub fn write(&self, run: usize, session: &mut OwnedSession) -> Result<()> {
        let model = session.model();
        let at = (0..model.input_count()).find(|&i| input_name(&model, i) == self.name());
        let Some((i, tensor)) = at.and_then(|i| Some((i, model.tensor(model.input_tensor(i)?)))) else { return Ok(()) };
        let bytes = match self {
            Media::Picture(p) => p.bytes(&tensor)?,
            Media::Sound(s) => s.bytes(run, &tensor)?,
        };
        inputs::write(session, i, &bytes)
    }
}
