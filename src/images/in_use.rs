//! Which labs boot from which images, so that nothing is taken away from under a lab.

use std::collections::BTreeMap;

use crate::images::digest::Sha256;

/// The names of labs by the digests of their images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    labs: BTreeMap<String, Vec<String>>,
}

impl InUse {
    /// The labs that boot from the image with this digest.
    pub fn labs(&self, image: Sha256) -> &[String] {
        self.labs.get(&image.to_string()).map_or(&[], Vec::as_slice)
    }
}

/// From pairs of an image's digest and a lab's name.
impl FromIterator<(String, String)> for InUse {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(pairs: T) -> Self {
        let mut labs: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (image, lab) in pairs {
            labs.entry(image).or_default().push(lab);
        }
        Self { labs }
    }
}
