//! Sums by AVX-512's instruction that adds four products of bytes at once (VNNI), and by AVX2's that adds two products of 16
//! bits. Tokens prove that the instructions exist.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::dot::{Group, InputBuffers, IntDot, QUAD, Sums};
use super::rotation::GROUP;
use crate::cpu_features::{Avx2, Avx512Vnni};
use crate::panel::{PANEL_OUTPUTS, ROWS};

/// AVX-512 registers of a panel's sums of one row.
const REGISTERS: usize = PANEL_OUTPUTS / 16;

/// Keeps sums in 24 of 32 registers.
impl IntDot for Avx512Vnni {
    type Inputs = [u8; QUAD];

    #[inline(always)]
    fn prepare(bytes: [u8; QUAD]) -> [u8; QUAD] {
        bytes
    }

    fn buffer(buffers: &mut InputBuffers) -> &mut Vec<[[u8; QUAD]; ROWS]> {
        buffers.bytes()
    }

    #[inline(always)]
    fn rotate(self, values: &mut [f32; GROUP]) {
        let at = |register: usize| 16 * register;
        // SAFETY: the token proves the instructions; whole registers of values and signs are read and written.
        unsafe {
            let first = values.as_ptr();
            let mut x: Group512 =
                std::array::from_fn(|register| _mm512_loadu_ps(first.add(at(register))));
            let sign = _mm512_loadu_ps(const { &signs::<1, 16>() }.as_ptr());
            x = x.map(|x| _mm512_fmadd_ps(x, sign, _mm512_permute_ps::<0b10_11_00_01>(x)));
            let sign = _mm512_loadu_ps(const { &signs::<2, 16>() }.as_ptr());
            x = x.map(|x| _mm512_fmadd_ps(x, sign, _mm512_permute_ps::<0b01_00_11_10>(x)));
            let sign = _mm512_loadu_ps(const { &signs::<4, 16>() }.as_ptr());
            x = x.map(|x| _mm512_fmadd_ps(x, sign, _mm512_shuffle_f32x4::<0b10_11_00_01>(x, x)));
            let sign = _mm512_loadu_ps(const { &signs::<8, 16>() }.as_ptr());
            x = x.map(|x| _mm512_fmadd_ps(x, sign, _mm512_shuffle_f32x4::<0b01_00_11_10>(x, x)));
            x = across(x, 1, |a, b| _mm512_add_ps(a, b), |a, b| _mm512_sub_ps(a, b));
            x = across(x, 2, |a, b| _mm512_add_ps(a, b), |a, b| _mm512_sub_ps(a, b));
            for (register, x) in x.into_iter().enumerate() {
                _mm512_storeu_ps(values.as_mut_ptr().add(at(register)), x);
            }
        }
    }

    #[inline(always)]
    fn sums(self, group: &Group<[u8; QUAD]>) -> Sums {
        let mut sums: Sums = [[0; PANEL_OUTPUTS]; ROWS];
        // SAFETY: the token proves the instructions; whole registers of `start`, of a quad's weights and of the sums are read
        // and written.
        unsafe {
            let start = group.start.as_ptr();
            let first: [__m512i; REGISTERS] =
                std::array::from_fn(|at| _mm512_loadu_si512(start.add(16 * at).cast()));
            let mut registers = [first; ROWS];
            for (inputs, weights) in group.inputs.iter().zip(group.weights) {
                let weights = weights.as_ptr();
                let weights: [__m512i; REGISTERS] =
                    std::array::from_fn(|at| _mm512_loadu_si512(weights.add(16 * at).cast()));
                for (registers, inputs) in registers.iter_mut().zip(inputs) {
                    let inputs = _mm512_set1_epi32(i32::from_le_bytes(*inputs));
                    for (sums, weights) in registers.iter_mut().zip(weights) {
                        *sums = _mm512_dpbusd_epi32(*sums, inputs, weights);
                    }
                }
            }
            for (registers, sums) in registers.iter().zip(&mut sums) {
                for (at, register) in registers.iter().enumerate() {
                    _mm512_storeu_si512(sums.as_mut_ptr().add(16 * at).cast(), *register);
                }
            }
        }
        sums
    }
}

/// Signs of values that lie in the lower and upper halves of runs of twice `DISTANCE`.
const fn signs<const DISTANCE: usize, const LANES: usize>() -> [f32; LANES] {
    let mut signs = [1.0; LANES];
    let mut at = 0;
    while at < LANES {
        if at & DISTANCE != 0 {
            signs[at] = -1.0;
        }
        at += 1;
    }
    signs
}

/// Registers of a group of values in AVX-512, and in AVX2.
type Group512 = [__m512; GROUP / 16];
type Group256 = [__m256; GROUP / 8];

/// Sums and differences of registers `distance` from each other.
#[inline(always)]
fn across<T: Copy, const N: usize>(
    registers: [T; N],
    distance: usize,
    sum: impl Fn(T, T) -> T,
    difference: impl Fn(T, T) -> T,
) -> [T; N] {
    std::array::from_fn(|at| match at & distance {
        0 => sum(registers[at], registers[at + distance]),
        _ => difference(registers[at - distance], registers[at]),
    })
}

/// Outputs whose sums AVX2 computes at once; each has two in a register.
const AVX2_OUTPUTS: usize = 8;

/// Keeps sums in 12 of 16 registers.
impl IntDot for Avx2 {
    /// Four integers of 16 bits.
    type Inputs = i64;

    #[inline(always)]
    fn prepare(bytes: [u8; QUAD]) -> i64 {
        let [a, b, c, d] = bytes.map(i64::from);
        a | b << 16 | c << 32 | d << 48
    }

    fn buffer(buffers: &mut InputBuffers) -> &mut Vec<[i64; ROWS]> {
        &mut buffers.widened
    }

    #[inline(always)]
    fn rotate(self, values: &mut [f32; GROUP]) {
        let at = |register: usize| 8 * register;
        // SAFETY: the token proves the instructions; whole registers of values and signs are read and written.
        unsafe {
            let first = values.as_ptr();
            let mut x: Group256 =
                std::array::from_fn(|register| _mm256_loadu_ps(first.add(at(register))));
            let sign = _mm256_loadu_ps(const { &signs::<1, 8>() }.as_ptr());
            x = x.map(|x| _mm256_fmadd_ps(x, sign, _mm256_permute_ps::<0b10_11_00_01>(x)));
            let sign = _mm256_loadu_ps(const { &signs::<2, 8>() }.as_ptr());
            x = x.map(|x| _mm256_fmadd_ps(x, sign, _mm256_permute_ps::<0b01_00_11_10>(x)));
            let sign = _mm256_loadu_ps(const { &signs::<4, 8>() }.as_ptr());
            x = x.map(|x| _mm256_fmadd_ps(x, sign, _mm256_permute2f128_ps::<1>(x, x)));
            x = across(x, 1, |a, b| _mm256_add_ps(a, b), |a, b| _mm256_sub_ps(a, b));
            x = across(x, 2, |a, b| _mm256_add_ps(a, b), |a, b| _mm256_sub_ps(a, b));
            x = across(x, 4, |a, b| _mm256_add_ps(a, b), |a, b| _mm256_sub_ps(a, b));
            for (register, x) in x.into_iter().enumerate() {
                _mm256_storeu_ps(values.as_mut_ptr().add(at(register)), x);
            }
        }
    }

    #[inline(always)]
    fn sums(self, group: &Group<i64>) -> Sums {
        let mut sums: Sums = [[0; PANEL_OUTPUTS]; ROWS];
        for first in (0..PANEL_OUTPUTS).step_by(AVX2_OUTPUTS) {
            // SAFETY: the token proves the instructions; the weights, sums and starts of eight outputs from `first` on are read
            // and written.
            unsafe {
                let mut registers = [[_mm256_setzero_si256(); 2]; ROWS];
                for (inputs, weights) in group.inputs.iter().zip(group.weights) {
                    let weights = weights.as_ptr().add(first).cast::<__m128i>();
                    let weights: [__m256i; 2] = std::array::from_fn(|half| {
                        _mm256_cvtepi8_epi16(_mm_loadu_si128(weights.add(half)))
                    });
                    for (registers, inputs) in registers.iter_mut().zip(inputs) {
                        let inputs = _mm256_set1_epi64x(*inputs);
                        for (sums, weights) in registers.iter_mut().zip(weights) {
                            *sums = _mm256_add_epi32(*sums, _mm256_madd_epi16(inputs, weights));
                        }
                    }
                }
                let start = _mm256_loadu_si256(group.start.as_ptr().add(first).cast());
                for ([lower, upper], sums) in registers.iter().zip(&mut sums) {
                    // Outputs 0, 1, 4, 5, 2, 3, 6, 7.
                    let added = _mm256_hadd_epi32(*lower, *upper);
                    let in_order = _mm256_permute4x64_epi64::<0b11_01_10_00>(added);
                    let sum = _mm256_add_epi32(start, in_order);
                    _mm256_storeu_si256(sums.as_mut_ptr().add(first).cast(), sum);
                }
            }
        }
        sums
    }
}
