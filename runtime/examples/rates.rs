//! Measures the rates by which rows are packed (`seeward_models::forest::Rates`) with a bundle, on text alone:
//!
//! ```sh
//! cargo run --release -p seeward-runtime --example rates -- bundles/mine
//! ```
//!
//! Fits the seconds of runs of one row by `run + token · T + pair · T²`: least squares of the relative error, on the median of
//! several rounds. A wide model gives the cost of its weights, a tiny one that of its layers.

use std::time::Duration;

use seeward_runtime::{Options, Request, RewardModel};

/// Words of the rows, of about one token each.
const WORDS: [usize; 9] = [1, 16, 64, 128, 256, 512, 1024, 2048, 3072];
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bundle = std::env::args().nth(1).ok_or("usage: rates BUNDLE")?;
    let options = Options::default().batch_tokens(usize::MAX);
    let model = RewardModel::load(&bundle, options)?;
    let mut rows: Vec<(f64, Vec<f64>)> = vec![(0.0, Vec::new()); WORDS.len()];
    for _ in 0..=ROUNDS {
        for (row, &words) in rows.iter_mut().zip(&WORDS) {
            let (tokens, time) = run(&model, words)?;
            row.0 = tokens as f64;
            row.1.push(time.as_secs_f64());
        }
    }
    let medians: Vec<(f64, f64)> = rows.into_iter().map(|(t, s)| (t, median(s))).collect();
    let [run, token, pair] = fit(&medians);
    println!("{:>8} {:>10} {:>10}", "tokens", "seconds", "fitted");
    for (tokens, seconds) in &medians {
        let fitted = run + token * tokens + pair * tokens * tokens;
        println!("{tokens:>8} {seconds:>10.5} {fitted:>10.5}");
    }
    let work = model.bundle().manifest().work;
    let (layers, weights) = (work.layers as f64, work.weights as f64);
    println!(
        "{run:.2e} s a run: {:.2e} for each layer, or {:.2e} for each weight",
        run / layers,
        run / weights
    );
    println!(
        "{:.2e} s for an operation of linear layers",
        token / (2.0 * weights)
    );
    println!(
        "{:.2e} s for an operation of attention",
        pair / work.attention as f64
    );
    Ok(())
}

/// Tokens of a row of this many words, and the engine's time for it.
fn run(model: &RewardModel, words: usize) -> seeward_runtime::Result<(u64, Duration)> {
    let request = Request::new("a ".repeat(words)).response("b");
    let usage = model.score(&[request])?.usage;
    Ok((usage.tokens, usage.engine))
}

/// The median of all rounds but the first.
fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.remove(0);
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// The (a, b, c) that minimise the relative error of a + b·t + c·t².
fn fit(points: &[(f64, f64)]) -> [f64; 3] {
    let mut system = [[0.0; 4]; 3];
    for &(tokens, seconds) in points {
        let terms = [1.0, tokens, tokens * tokens, seconds].map(|term| term / seconds);
        for (row, &left) in system.iter_mut().zip(&terms[..3]) {
            for (cell, right) in row.iter_mut().zip(terms) {
                *cell += left * right;
            }
        }
    }
    solve(system)
}

/// Gauss and Jordan's elimination; the matrix of a fit has no zero on its diagonal.
fn solve(mut system: [[f64; 4]; 3]) -> [f64; 3] {
    for pivot in 0..3 {
        let lead = system[pivot].map(|cell| cell / system[pivot][pivot]);
        system[pivot] = lead;
        for other in (0..3).filter(|&other| other != pivot) {
            let factor = system[other][pivot];
            for (cell, lead) in system[other].iter_mut().zip(lead) {
                *cell -= factor * lead;
            }
        }
    }
    system.map(|row| row[3])
}
