//! Scores two responses to a prompt with an image:
//!
//! ```sh
//! cargo run --release -p seeward-runtime --example minimal -- bundles/mine photo.png "what color is the shape?"
//! ```

use seeward_runtime::{Image, Options, Request, RewardModel};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bundle, image, prompt] = &arguments[..] else {
        return Err("usage: minimal BUNDLE IMAGE PROMPT".into());
    };
    let model = RewardModel::load(bundle, Options::default())?;
    let request = Request::new(prompt)
        .image(Image::path(image))
        .responses(["It is blue.", "I cannot tell."]);
    for result in model.score(std::slice::from_ref(&request))?.results {
        for (response, reward) in request.responses.iter().zip(result?.rewards) {
            println!("{reward:>9.4}  {response}");
        }
    }
    Ok(())
}
