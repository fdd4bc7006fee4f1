//! Bundles in bf16 for the CPU: near the published rewards, packed and alone, and no worse than LibTorch in bf16.

use tempfile::TempDir;

use super::*;

const CPU_BF16: (Target, Precision) = (Target::Cpu, Precision::Bf16);
/// Largest difference of its rewards from the published ones, times max(1, |reward|): twice what was seen (5.9e-2).
const BF16: f64 = 1.2e-1;
/// The same of rewards packed and alone. Their inputs differ by f32's rounding only, but a value that this moves across the
/// middle between two bf16 values moves by a unit in the last place. Most rewards differ by 1e-7; 1.4e-3 was seen.
const BF16_PACKED: f64 = 5e-3;

/// In bf16 for the CPU: packed and alone.
#[test]
fn exported_rewards_in_bf16_are_near_the_published_ones() {
    for name in &golden::reward_models() {
        let (folder, output) = bundle(&model_folder(name), Branch::Main, CPU_BF16, None);
        for (block, mode) in MODES {
            let options = Options::default().input(mode).threads(1);
            let model = RewardModel::load(&output, options).expect("loaded");
            bf16_is_near(name, &cases(name, block, "reward"), &model);
        }
        drop(folder);
    }
}

fn bf16_is_near(name: &str, cases: &[Case], model: &RewardModel) {
    let rows = cases.chunk_by(|a, b| a.row == b.row);
    let packed: Vec<Request> = rows
        .map(|row| request(&row.iter().collect::<Vec<_>>()))
        .collect();
    let together = score(model, &packed).0;
    let mut worst = [0.0_f64; 2];
    for (case, packed) in cases.iter().zip(together) {
        let alone = score(model, &[request(&[case])]).0[0];
        case.check_within(BF16, &format!("{name} in bf16, packed"), packed);
        case.check_within(BF16, &format!("{name} in bf16, alone"), alone);
        let tolerance = Tolerance::reward(BF16_PACKED, alone);
        assert_close(
            &format!("{name} in bf16: packed against alone"),
            &[packed],
            &[alone],
            tolerance,
        );
        let least = case.reward.abs().max(1.0);
        worst[0] = worst[0].max((packed - case.reward).abs() / least);
        worst[1] = worst[1].max((packed - alone).abs() / least);
    }
    println!(
        "{name} in bf16 differs by at most {:.1e}, packed by {:.1e}",
        worst[0], worst[1]
    );
}

/// The sizes of the folder `source`, with a language model as deep as Qwen3-4B's.
fn deep(source: &Path) -> ModelConfig {
    let mut config = ModelConfig::open(source).expect("sizes").json().clone();
    config["llm_config"]["num_hidden_layers"] = json!(36);
    ModelConfig::parse(config).expect("sizes")
}

/// Root mean square of the differences.
fn rms(got: &[f64], expected: &[f64]) -> f64 {
    let squares = got.iter().zip(expected).map(|(g, e)| (g - e).powi(2));
    (squares.sum::<f64>() / got.len() as f64).sqrt()
}

/// Differences between the rewards of every two responses of a row.
fn margins(cases: &[Case], rewards: &[f64]) -> Vec<f64> {
    let mut margins = Vec::new();
    for (i, a) in cases.iter().enumerate() {
        for (j, b) in cases.iter().enumerate().skip(i + 1) {
            if a.row == b.row {
                margins.push(rewards[i] - rewards[j]);
            }
        }
    }
    margins
}

/// A random model as deep as trained ones, with dominant channels as they have them.
struct Outliers {
    _folder: TempDir,
    checkpoint: PathBuf,
    cases: Vec<Case>,
}

impl Outliers {
    fn new() -> Self {
        let (folder, source) = (
            tempfile::tempdir().expect("a folder"),
            model_folder("qwen2"),
        );
        let checkpoint = RandomCheckpoint {
            config: deep(&source),
            seed: 0,
            dtype: Dtype::F32,
            score_head: true,
            text_only_branch: false,
            outliers: true,
        };
        let path = folder.path().join("checkpoint");
        checkpoint.write(&path, Some(&source)).expect("written");
        Self {
            _folder: folder,
            checkpoint: path,
            cases: cases("qwen2", "full", "reward"),
        }
    }

    fn in_libtorch(&self, bf16: bool) -> Vec<f64> {
        let config = Config {
            model_name_or_path: self.checkpoint.display().to_string(),
            max_length: 4096,
            bf16,
            ..Config::default()
        };
        let torch = LibTorch::of(&config, Branch::Main);
        let one = |case| torch.rewards(&torch.inputs(&[[case, case]], true))[0];
        self.cases.iter().map(one).collect()
    }

    fn on_the_cpu(&self, precision: Precision) -> Vec<f64> {
        let lowering = (Target::Cpu, precision);
        let (_folder, output) = bundle(&self.checkpoint, Branch::Main, lowering, None);
        let model = RewardModel::load(&output, Options::default().threads(1)).expect("loaded");
        let requests: Vec<Request> = self.cases.iter().map(|case| request(&[case])).collect();
        score(&model, &requests).0
    }
}

/// Dominant channels cost bf16 on the CPU at most what they cost LibTorch in bf16, and margins in int8 at most half as much
/// again. Depth counts: LibTorch rounds to bf16 what the layers add up to, int8 what each adds. The error of margins was 3.6
/// times LibTorch's through 2 layers, 1.8 times through 24, 1.4 times through 30 and as much through 36.
#[test]
fn narrow_precisions_on_the_cpu_bear_dominant_channels() {
    let model = Outliers::new();
    let [expected, theirs] = [false, true].map(|bf16| model.in_libtorch(bf16));
    let ours = model.on_the_cpu(Precision::Bf16);
    let [ours, theirs_alone] = [ours, theirs.clone()].map(|rewards| rms(&rewards, &expected));
    println!("bf16 with outliers: {ours:.1e}, LibTorch's {theirs_alone:.1e}");
    assert!(
        ours > 1e-4 && ours <= theirs_alone,
        "{ours} and {theirs_alone}"
    );

    let margins = |rewards: &[f64]| margins(&model.cases, rewards);
    let expected = margins(&expected);
    let ours = rms(&margins(&model.on_the_cpu(Precision::Int8)), &expected);
    let theirs = rms(&margins(&theirs), &expected);
    println!("int8 margins with outliers: {ours:.1e}, LibTorch's in bf16 {theirs:.1e}");
    assert!(ours > 1e-4 && ours <= 1.5 * theirs, "{ours} and {theirs}");
}
