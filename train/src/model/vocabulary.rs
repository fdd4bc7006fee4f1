//! Resizing of the embedding table if image tokens are new to the tokenizer, as in the published code.

use anyhow::{Result, ensure};
use seeward_models::config::Config;
use seeward_models::net;
use seeward_models::tokenizer::Tokenizer;
use tch::{Device, Kind, Tensor};

use crate::libtorch::parameters::Parameters;
use crate::random::Stream;

/// Standard deviation of new rows if the language model's `initializer_range` is absent.
const DEVIATION: f64 = 0.02;

/// The number of rows that a tokenizer needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vocabulary {
    /// All rows.
    rows: usize,
    /// The rows of tokens that were added to the tokenizer, which are the last ones.
    new: usize,
}

impl Vocabulary {
    /// The vocabulary of `tokenizer`.
    pub(crate) fn of(tokenizer: &Tokenizer) -> Self {
        Self {
            rows: tokenizer.vocabulary(),
            new: tokenizer.new_tokens(),
        }
    }

    /// Resizes the tables of the branch of this prefix if there are new tokens, and returns its configuration. New input
    /// rows are drawn; new rows of the output projection are the mean of its others, and so are those of a tied table.
    pub(crate) fn fit(
        self,
        parameters: &mut Parameters,
        prefix: &str,
        config: &Config,
        seed: u64,
    ) -> Result<Config> {
        if !self.differs(config.text.vocabulary)? {
            return Ok(config.clone());
        }
        let text = config.text_json();
        let deviation = text["initializer_range"].as_f64().unwrap_or(DEVIATION);
        let input = net::token_embeddings(&config.text);
        let output = net::output_projection(&config.text);
        for name in [&input, &output] {
            let is_output = *name == output || config.text.tied_embeddings;
            let name = format!("{prefix}{name}");
            if let Ok(table) = parameters.get(&name) {
                let stream = Stream::new(seed, &name, 0);
                let mut table = stream.torch(|| self.resized(table, deviation));
                if is_output {
                    table = self.averaged(&table);
                }
                parameters.insert(name, table);
            }
        }
        Ok(config.with_text("vocab_size", self.rows)?)
    }

    /// Whether a table of `stored` rows must change. Without new tokens it may have spare rows.
    fn differs(self, stored: usize) -> Result<bool> {
        if self.new > 0 && self.rows != stored {
            return Ok(true);
        }
        ensure!(
            self.rows <= stored,
            "the tokenizer has ids up to {}, the embedding table only {stored} rows",
            self.rows - 1
        );
        Ok(false)
    }

    /// The first rows of `table`, followed by drawn ones.
    fn resized(self, table: &Tensor, deviation: f64) -> Tensor {
        let (rows, (stored, width)) = (self.rows as i64, table.size2().expect("a matrix"));
        let kept = table.narrow(0, 0, stored.min(rows));
        let drawn = Tensor::randn([(rows - stored).max(0), width], (Kind::Float, Device::Cpu));
        Tensor::cat(&[kept, (drawn * deviation).to_device(table.device())], 0)
    }

    /// `table` with its new rows replaced by the mean of the others.
    fn averaged(self, table: &Tensor) -> Tensor {
        let old = table.narrow(0, 0, (self.rows - self.new) as i64);
        let mean = old.mean_dim(0, true, Kind::Float);
        let new = mean.expand([self.new as i64, -1], false);
        Tensor::cat(&[old, new], 0)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/models");

    /// The fitted tables of a model, whose rows were filled with their row numbers.
    fn fitted(model: &str, vocabulary: Vocabulary) -> (Config, Parameters) {
        let config = Config::open(&Path::new(MODELS).join(model)).unwrap();
        let (rows, width) = (config.text.vocabulary as i64, config.text.hidden as i64);
        let mut parameters = Parameters::default();
        let mut names = vec![net::token_embeddings(&config.text)];
        if !config.text.tied_embeddings {
            names.push(net::output_projection(&config.text));
        }
        for name in names {
            let numbers = Tensor::arange(rows, (Kind::Float, Device::Cpu));
            let table = numbers.unsqueeze(1).expand([rows, width], false);
            parameters.insert(name, table.contiguous());
        }
        let config = vocabulary.fit(&mut parameters, "", &config, 1).unwrap();
        (config, parameters)
    }

    fn row(parameters: &Parameters, name: &str, row: usize) -> Vec<f64> {
        let row = parameters.get(name).unwrap().get(row as i64);
        Vec::try_from(row.to_kind(Kind::Double)).unwrap()
    }

    #[test]
    fn new_tokens_get_drawn_inputs_and_the_mean_output() {
        let (config, parameters) = fitted("internlm2", Vocabulary { rows: 926, new: 9 });
        let (input, output) = (
            net::token_embeddings(&config.text),
            net::output_projection(&config.text),
        );
        assert_eq!(config.text.vocabulary, 926);
        assert_eq!(config.json()["llm_config"]["vocab_size"], 926);
        for name in [&input, &output] {
            assert_eq!(parameters.get(name).unwrap().size(), [926, 64], "{name}");
            assert_eq!(row(&parameters, name, 916), [916.0; 64], "{name}");
        }
        // The mean of 0 to 916.
        assert_eq!(row(&parameters, &output, 917), [458.0; 64]);
        assert_eq!(row(&parameters, &output, 925), [458.0; 64]);
        let drawn = row(&parameters, &input, 920);
        assert!(drawn.iter().all(|v| v.abs() < 0.2) && drawn[0] != drawn[1]);
        let (_, again) = fitted("internlm2", Vocabulary { rows: 926, new: 9 });
        assert_eq!(row(&again, &input, 920), drawn);
    }

    #[test]
    fn a_table_with_spare_rows_shrinks() {
        let (config, parameters) = fitted("qwen2", Vocabulary { rows: 769, new: 9 });
        let (input, output) = (
            net::token_embeddings(&config.text),
            net::output_projection(&config.text),
        );
        assert_eq!(parameters.get(&input).unwrap().size(), [769, 64]);
        assert_eq!(row(&parameters, &input, 768), [768.0; 64]);
        // The mean of 0 to 759.
        assert_eq!(row(&parameters, &output, 768), [379.5; 64]);
    }

    #[test]
    fn a_tied_table_is_both() {
        let (config, parameters) = fitted("qwen2_tied", Vocabulary { rows: 790, new: 9 });
        let input = net::token_embeddings(&config.text);
        assert_eq!(row(&parameters, &input, 789), [390.0; 48]);
        assert!(!parameters.contains(&net::output_projection(&config.text)));
    }

    #[test]
    fn without_new_tokens_nothing_changes() {
        let (config, parameters) = fitted("qwen2", Vocabulary { rows: 769, new: 0 });
        let input = net::token_embeddings(&config.text);
        assert_eq!(parameters.get(&input).unwrap().size(), [772, 64]);
        let too_many = Vocabulary { rows: 773, new: 0 };
        let text = too_many.fit(&mut Parameters::default(), "", &config, 1);
        let text = text.unwrap_err().to_string();
        assert_eq!(
            text,
            "the tokenizer has ids up to 772, the embedding table only 772 rows"
        );
    }
}
