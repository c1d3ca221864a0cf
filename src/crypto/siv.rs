//! AES-SIV: sealing bytes so that any change is noticed.
//!
//! RFC 5297 with a 512-bit key (two AES-256 halves). Its authentication, CMAC, is a chain: each block of a message
//! waits for the one before. A processor could encrypt eight blocks in the time of one, so [`SivKey::seal_many`]
//! and [`SivKey::open_many`] walk the chains of up to eight messages side by side; every message still comes out
//! exactly as the RFC says. This file knows bytes and keys, not what they mean.

use super::same_bytes;
use aes::Aes256Enc;
use aes::cipher::array::Array;
use aes::cipher::consts::U16;
use aes::cipher::{
    Block, BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, KeyInit, ParBlocks,
};
use std::fmt;
use zeroize::Zeroize;

/// Bytes in an AES block, a nonce and a synthetic initialisation vector.
pub const BLOCK_BYTES: usize = 16;

/// Chains that run side by side. AES takes four cycles a round and two may begin in each (Zen 4; newer Intel cores
/// are alike), so eight chains fill the unit; more would wait for each other.
const LANES: usize = 8;

type Bytes16 = [u8; BLOCK_BYTES];
type AesBlock = Array<u8, U16>;

/// The bytes are not what was sealed under this key with this associated data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the seal does not hold: altered bytes, another place or another key")]
pub struct Forged;

/// One of several messages that are sealed or opened together.
pub struct Message<'a> {
    /// Authenticated with the text and stored beside it, so that equal texts look different.
    pub nonce: [u8; BLOCK_BYTES],
    /// Plaintext before sealing, ciphertext after; the other way round when opening.
    pub text: &'a mut [u8],
    /// The synthetic initialisation vector: filled in by sealing, compared by opening.
    pub iv: [u8; BLOCK_BYTES],
}

/// A key that seals and opens; wiped when dropped.
pub struct SivKey(Siv<Aes256Enc>);

impl SivKey {
    /// Expands a key: the first half authenticates (K1 of the RFC), the second encrypts (K2).
    pub fn new(key: &[u8; 64]) -> SivKey {
        SivKey(Siv::new(key))
    }

    /// Encrypts `text` where it lies and returns its synthetic initialisation vector, to be stored beside it.
    ///
    /// A nonce, where there is one, is the last associated string.
    pub fn seal_in_place(&self, associated: &[&[u8]], text: &mut [u8]) -> [u8; BLOCK_BYTES] {
        self.0.seal(associated, text)
    }

    /// Decrypts `text` where it lies. A text that is not as sealed is wiped.
    pub fn open_in_place(&self, associated: &[&[u8]], iv: &[u8; BLOCK_BYTES], text: &mut [u8]) -> Result<(), Forged> {
        self.0.open(associated, iv, text)
    }

    /// Seals each message as [`SivKey::seal_in_place`] with `[header, nonce]` would, eight at a time; quickest when
    /// they are about equally long.
    pub fn seal_many(&self, header: &[u8], messages: &mut [Message<'_>]) {
        self.0.seal_many(header, messages);
    }

    /// Opens each message as [`SivKey::open_in_place`] with `[header, nonce]` would, eight at a time, and answers for
    /// each in the same order. The texts of those that are not as sealed are wiped.
    pub fn open_many(&self, header: &[u8], messages: &mut [Message<'_>]) -> Vec<Result<(), Forged>> {
        self.0.open_many(header, messages)
    }
}

impl fmt::Debug for SivKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SivKey(…)")
    }
}

/// SIV over any block cipher of 16 bytes, so that the RFC's AES-128 vectors prove the code that runs with AES-256.
struct Siv<C> {
    mac: C,
    encryption: C,
    /// Mixed into a chain's last block when it is whole.
    whole_mask: Bytes16,
    /// Mixed into a chain's last block when it is padded.
    padded_mask: Bytes16,
    /// CMAC of a zero block: where every S2V begins.
    start: Bytes16,
}

impl<C> Drop for Siv<C> {
    fn drop(&mut self) {
        // The ciphers wipe their own round keys.
        self.whole_mask.zeroize();
        self.padded_mask.zeroize();
        self.start.zeroize();
    }
}

impl<C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16> + KeyInit> Siv<C> {
    fn new(key: &[u8]) -> Siv<C> {
        let (mac_half, encryption_half) = key.split_at(key.len() / 2);
        let mac = C::new_from_slice(mac_half).expect("half of the key fits the cipher");
        let encryption = C::new_from_slice(encryption_half).expect("half of the key fits the cipher");
        let mut zero = AesBlock::default();
        mac.encrypt_block(&mut zero);
        let whole_mask = double(zero.into());
        let mut siv = Siv { mac, encryption, whole_mask, padded_mask: double(whole_mask), start: [0; BLOCK_BYTES] };
        siv.start = siv.cmac(&[0; BLOCK_BYTES]);
        siv
    }

    fn seal(&self, associated: &[&[u8]], text: &mut [u8]) -> Bytes16 {
        let iv = self.synthetic_iv(associated, text);
        self.apply_keystream(&iv, text);
        iv
    }

    fn open(&self, associated: &[&[u8]], iv: &Bytes16, text: &mut [u8]) -> Result<(), Forged> {
        self.apply_keystream(iv, text);
        let expected = self.synthetic_iv(associated, text);
        accept(iv, &expected, text)
    }

    fn seal_many(&self, header: &[u8], messages: &mut [Message<'_>]) {
        let ivs = self.synthetic_ivs(header, messages);
        for (message, iv) in messages.iter_mut().zip(ivs) {
            message.iv = iv;
            self.apply_keystream(&iv, message.text);
        }
    }

    fn open_many(&self, header: &[u8], messages: &mut [Message<'_>]) -> Vec<Result<(), Forged>> {
        for message in messages.iter_mut() {
            self.apply_keystream(&message.iv, message.text);
        }
        let expected = self.synthetic_ivs(header, messages);
        messages
            .iter_mut()
            .zip(expected)
            .map(|(message, expected)| accept(&message.iv, &expected, message.text))
            .collect()
    }

    /// S2V over the associated strings and the text (RFC 5297, section 2.4).
    fn synthetic_iv(&self, associated: &[&[u8]], text: &[u8]) -> Bytes16 {
        let sum = associated.iter().fold(self.start, |sum, string| self.absorb(sum, string));
        let (blocks, tail) = split_text(text);
        self.conclude(sum, self.walk_one([0; BLOCK_BYTES], blocks), tail)
    }

    /// S2V over header, nonce and text for each of the messages.
    fn synthetic_ivs(&self, header: &[u8], messages: &[Message<'_>]) -> Vec<Bytes16> {
        let header = self.absorb(self.start, header);
        let mut chains: Vec<Chain<'_>> = messages
            .iter()
            .map(|message| Chain { state: [0; BLOCK_BYTES], blocks: split_text(message.text).0 })
            .collect();
        self.walk_all(&mut chains);
        messages
            .iter()
            .zip(&chains)
            .map(|(message, chain)| {
                let sum = self.absorb(header, &message.nonce);
                self.conclude(sum, chain.state, split_text(message.text).1)
            })
            .collect()
    }

    /// Adds one associated string to the running sum of S2V.
    fn absorb(&self, sum: Bytes16, string: &[u8]) -> Bytes16 {
        xor(double(sum), self.cmac(string))
    }

    /// The last step of S2V: the sum goes into the end of the text, whose chain has come as far as `state`.
    fn conclude(&self, sum: Bytes16, state: Bytes16, tail: &[u8]) -> Bytes16 {
        if tail.len() < BLOCK_BYTES {
            return self.cmac(&xor(double(sum), pad(tail)));
        }
        let mut end = [0; 2 * BLOCK_BYTES];
        let end = &mut end[..tail.len()];
        end.copy_from_slice(tail);
        for (byte, sum) in end[tail.len() - BLOCK_BYTES..].iter_mut().zip(sum) {
            *byte ^= sum;
        }
        self.finish_cmac(state, end)
    }

    fn cmac(&self, message: &[u8]) -> Bytes16 {
        self.finish_cmac([0; BLOCK_BYTES], message)
    }

    /// CMAC (RFC 4493) from a chain that stands at `state`, over what is left of the message.
    fn finish_cmac(&self, state: Bytes16, rest: &[u8]) -> Bytes16 {
        let before_last = rest.len().saturating_sub(1) / BLOCK_BYTES * BLOCK_BYTES;
        let (before, last) = rest.split_at(before_last);
        let state = self.walk_one(state, before.as_chunks().0);
        let last = match last.try_into() {
            Ok(whole) => xor(whole, self.whole_mask),
            Err(_) => xor(pad(last), self.padded_mask),
        };
        let mut block = xor(state, last).into();
        self.mac.encrypt_block(&mut block);
        block.into()
    }

    fn walk_one(&self, state: Bytes16, blocks: &[Bytes16]) -> Bytes16 {
        if blocks.is_empty() {
            return state;
        }
        let mut states = [state.into()];
        self.mac.encrypt_with_backend(Walk { states: &mut states, inputs: [blocks] });
        states[0].into()
    }

    /// Walks all chains to their ends, [`LANES`] side by side while there are so many. The longest begin, and where one
    /// ends the next takes its lane, so that few are left to walk alone.
    fn walk_all(&self, chains: &mut [Chain<'_>]) {
        let mut waiting: Vec<&mut Chain<'_>> = chains.iter_mut().collect();
        waiting.sort_by_key(|chain| chain.blocks.len());
        let mut live = Vec::with_capacity(LANES);
        loop {
            live.retain(|chain: &&mut Chain<'_>| !chain.blocks.is_empty());
            while live.len() < LANES
                && let Some(next) = waiting.pop()
            {
                live.push(next);
            }
            match live.len() {
                0 => return,
                1 => self.walk_together::<1>(&mut live),
                2..=4 => self.walk_together::<4>(&mut live),
                _ => self.walk_together::<LANES>(&mut live),
            }
        }
    }

    /// Walks at most `N` chains until the shortest ends. Spare lanes repeat the last chain: they cost nothing beside
    /// it, and their result is not looked at.
    fn walk_together<const N: usize>(&self, chains: &mut [&mut Chain<'_>]) {
        let last = chains.len() - 1;
        let steps = chains.iter().map(|chain| chain.blocks.len()).min().unwrap_or(0);
        let mut states = std::array::from_fn(|lane| chains[lane.min(last)].state.into());
        let inputs: [_; N] = std::array::from_fn(|lane| &chains[lane.min(last)].blocks[..steps]);
        self.mac.encrypt_with_backend(Walk { states: &mut states, inputs });
        for (chain, state) in chains.iter_mut().zip(states) {
            chain.state = state.into();
            chain.blocks = &chain.blocks[steps..];
        }
    }

    /// Encrypts or decrypts with AES-CTR, the counter beginning at `iv` without its bits 31 and 63.
    fn apply_keystream(&self, iv: &Bytes16, text: &mut [u8]) {
        let counter = u128::from_be_bytes(*iv) & !(1 << 31 | 1 << 63);
        self.encryption.encrypt_with_backend(Keystream { counter, text });
    }
}

/// How far the CMAC of one message has come.
struct Chain<'a> {
    state: Bytes16,
    /// What it has yet to take in before the message's end.
    blocks: &'a [Bytes16],
}

/// `N` CMAC chains over equally many blocks, in step.
struct Walk<'a, const N: usize> {
    states: &'a mut [AesBlock; N],
    inputs: [&'a [Bytes16]; N],
}

impl<const N: usize> BlockSizeUser for Walk<'_, N> {
    type BlockSize = U16;
}

impl<const N: usize> BlockCipherEncClosure for Walk<'_, N> {
    // Inlined into the function that `aes` compiles for the processor found at run time; so the rounds of all
    // lanes stand in one loop and the processor overlaps them.
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let mut states = *self.states;
        let steps = self.inputs[0].len();
        let inputs = self.inputs.map(|blocks| &blocks[..steps]);
        for step in 0..steps {
            for (state, blocks) in states.iter_mut().zip(&inputs) {
                *state = xor((*state).into(), blocks[step]).into();
            }
            encrypt_each(backend, &mut states);
        }
        *self.states = states;
    }
}

/// Encrypts each block, in batches where the backend's batch is not larger than what there is.
#[inline(always)]
fn encrypt_each<B: BlockCipherEncBackend<BlockSize = U16>>(backend: &B, blocks: &mut [Block<B>]) {
    let (batches, single) = ParBlocks::<B>::slice_as_chunks_mut(blocks);
    for batch in batches {
        backend.encrypt_par_blocks_inplace(batch);
    }
    for block in single {
        backend.encrypt_block_inplace(block);
    }
}

/// AES-CTR over a text, as many counter blocks at once as the backend takes.
struct Keystream<'a> {
    counter: u128,
    text: &'a mut [u8],
}

impl BlockSizeUser for Keystream<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Keystream<'_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let mut counter = self.counter;
        let mut pads = ParBlocks::<B>::default();
        for piece in self.text.chunks_mut(pads.len() * BLOCK_BYTES) {
            let used = piece.len().div_ceil(BLOCK_BYTES);
            for pad in &mut pads[..used] {
                *pad = counter.to_be_bytes().into();
                counter = next(counter);
            }
            encrypt_each(backend, &mut pads[..used]);
            for (byte, pad) in piece.iter_mut().zip(pads.as_flattened()) {
                *byte ^= pad;
            }
        }
    }
}

/// Counts one up. The cleared bit 63 catches every carry of a text that fits into memory, so the upper half stays as
/// it is, which is cheaper to know than to compute.
#[inline(always)]
fn next(counter: u128) -> u128 {
    let (upper, lower) = (counter >> 64, counter as u64);
    upper << 64 | u128::from(lower.wrapping_add(1))
}

/// Parts a text into the blocks that CMAC takes as they are and the rest, which S2V changes: at least 16 bytes and
/// fewer than 32, or the whole of a shorter text.
fn split_text(text: &[u8]) -> (&[Bytes16], &[u8]) {
    let plain = text.len().saturating_sub(BLOCK_BYTES) / BLOCK_BYTES * BLOCK_BYTES;
    let (plain, tail) = text.split_at(plain);
    (plain.as_chunks().0, tail)
}

fn accept(iv: &Bytes16, expected: &Bytes16, text: &mut [u8]) -> Result<(), Forged> {
    if same_bytes(iv, expected) {
        return Ok(());
    }
    text.zeroize();
    Err(Forged)
}

#[inline(always)]
fn xor(a: Bytes16, b: Bytes16) -> Bytes16 {
    (u128::from_ne_bytes(a) ^ u128::from_ne_bytes(b)).to_ne_bytes()
}

/// Multiplies by x in the field of RFC 5297, section 2.3, without branching on secret bits.
fn double(block: Bytes16) -> Bytes16 {
    let value = u128::from_be_bytes(block);
    ((value << 1) ^ ((value >> 127) * 0x87)).to_be_bytes()
}

/// Fills up a string of fewer than 16 bytes with a one bit and zeros.
fn pad(string: &[u8]) -> Bytes16 {
    let mut block = [0; BLOCK_BYTES];
    block[..string.len()].copy_from_slice(string);
    block[string.len()] = 0x80;
    block
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::ids::from_hex;
    use aes_siv::siv::Aes256Siv;

    fn hex(text: &str) -> Vec<u8> {
        from_hex(text).unwrap()
    }

    /// Bytes that depend on the seed alone.
    fn noise(seed: &str, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new_derive_key(seed).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn key_of(seed: &str) -> [u8; 64] {
        noise(seed, 64).try_into().unwrap()
    }

    fn check_vector(key: &str, associated: &[&str], plain: &str, iv: &str, sealed: &str) {
        let siv = Siv::<aes::Aes128Enc>::new(&hex(key));
        let associated: Vec<Vec<u8>> = associated.iter().map(|text| hex(text)).collect();
        let associated: Vec<&[u8]> = associated.iter().map(Vec::as_slice).collect();
        let mut text = hex(plain);
        assert_eq!(siv.seal(&associated, &mut text).to_vec(), hex(iv));
        assert_eq!(text, hex(sealed));
        siv.open(&associated, &hex(iv).try_into().unwrap(), &mut text).unwrap();
        assert_eq!(text, hex(plain));
    }

    #[test]
    fn the_vectors_of_rfc_5297_come_out() {
        check_vector(
            "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
            &["101112131415161718191a1b1c1d1e1f2021222324252627"],
            "112233445566778899aabbccddee",
            "85632d07c6e8f37f950acd320a2ecc93",
            "40c02b9690c4dc04daef7f6afe5c",
        );
        check_vector(
            "7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f",
            &[
                "00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100",
                "102030405060708090a0",
                "09f911029d74e35bd84156c5635688c0",
            ],
            "7468697320697320736f6d6520706c61696e7465787420746f20656e6372797074207573696e67205349562d414553",
            "7bdb6e3b432667eb06f4d14bff2fbd0f",
            "cb900f2fddbe404326601965c889bf17dba77ceb094fa663b7a3f748ba8af829ea64ad544a272e9c485b62a3fd5c0d",
        );
    }

    #[test]
    fn it_agrees_with_another_implementation_at_every_length() {
        let lengths = (0..=100).chain([255, 1000, 1023, 1024, 1025, 4095, 7777, 16384, 70001]);
        for length in lengths {
            let seed = format!("length {length}");
            let key = key_of(&seed);
            let plain = noise(&seed, length);
            let strings: Vec<Vec<u8>> =
                (0..length % 5).map(|i| noise(&format!("{seed} string {i}"), (length * 7 + i * 16) % 50)).collect();
            let associated: Vec<&[u8]> = strings.iter().map(Vec::as_slice).collect();

            let mut text = plain.clone();
            let iv = SivKey::new(&key).seal_in_place(&associated, &mut text);
            let theirs = Aes256Siv::new(&key.into()).encrypt(&associated, &plain).unwrap();
            assert_eq!([&iv[..], &text].concat(), theirs, "{seed}");
            SivKey::new(&key).open_in_place(&associated, &iv, &mut text).unwrap();
            assert_eq!(text, plain, "{seed}");
        }
    }

    #[test]
    fn the_counter_carries_beyond_its_last_bytes() {
        // No key gives a chosen vector, so the keystream is compared alone, against single blocks.
        let siv = Siv::<Aes256Enc>::new(&key_of("counter"));
        let iv = [0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfd];
        let mut text = vec![0; 200 * BLOCK_BYTES + 3];
        siv.apply_keystream(&iv, &mut text);
        let first = u128::from_be_bytes(iv) & !(1 << 31 | 1 << 63);
        for (counter, piece) in (first..).zip(text.chunks(BLOCK_BYTES)) {
            let mut block = counter.to_be_bytes().into();
            siv.encryption.encrypt_block(&mut block);
            assert_eq!(piece, &block[..piece.len()]);
        }
    }

    #[test]
    fn many_messages_are_sealed_as_each_alone() {
        let key = SivKey::new(&key_of("many"));
        let mixes: &[&[usize]] = &[
            &[],
            &[0],
            &[5000],
            &[0, 15, 16, 17, 31, 32, 33, 48],
            &[1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000],
            &[10, 90000, 20, 300, 16],
            &[64, 128, 8192],
            &[1, 2000, 3, 4, 5000, 6, 70, 8, 9, 10, 1100, 12, 13, 14, 15, 16, 17, 18, 19],
        ];
        for lengths in mixes {
            let plain: Vec<Vec<u8>> = lengths.iter().enumerate().map(|(i, n)| noise(&format!("{i}"), *n)).collect();
            let mut texts = plain.clone();
            let mut messages: Vec<Message<'_>> = texts
                .iter_mut()
                .enumerate()
                .map(|(i, text)| Message { nonce: [i as u8; 16], text, iv: [0; 16] })
                .collect();
            key.seal_many(b"header", &mut messages);
            for (i, message) in messages.iter().enumerate() {
                let mut alone = plain[i].clone();
                let iv = key.seal_in_place(&[b"header", &message.nonce], &mut alone);
                assert_eq!((iv, &alone[..]), (message.iv, &*message.text), "{lengths:?} {i}");
            }
            assert!(key.open_many(b"header", &mut messages).iter().all(Result::is_ok));
            assert_eq!(texts, plain);
        }
    }

    #[test]
    fn a_forged_message_is_wiped_and_the_others_open() {
        let key = SivKey::new(&key_of("forged"));
        let mut texts: Vec<Vec<u8>> = (0..10).map(|i| noise(&format!("{i}"), 500 + i)).collect();
        let plain = texts.clone();
        let mut messages: Vec<Message<'_>> =
            texts.iter_mut().map(|text| Message { nonce: [7; 16], text, iv: [0; 16] }).collect();
        key.seal_many(b"header", &mut messages);
        messages[3].text[499] ^= 1;
        messages[8].nonce[0] ^= 1;
        let answers = key.open_many(b"header", &mut messages);
        for (i, answer) in answers.iter().enumerate() {
            let forged = i == 3 || i == 8;
            assert_eq!(answer.is_err(), forged, "{i}");
            assert_eq!(texts[i], if forged { vec![0; 500 + i] } else { plain[i].clone() });
        }
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        let key = SivKey::new(&key_of("flip"));
        for length in [0, 1, 15, 16, 17, 40, 64] {
            let plain = noise("flip", length);
            let mut sealed = plain.clone();
            let nonce = [9; 16];
            let iv = key.seal_in_place(&[b"header", &nonce], &mut sealed);
            let whole = [&b"header"[..], &nonce, &iv, &sealed].concat();
            for bit in 0..whole.len() * 8 {
                let mut altered = whole.clone();
                altered[bit / 8] ^= 1 << (bit % 8);
                let (header, rest) = altered.split_at_mut(6);
                let (nonce, rest) = rest.split_at_mut(16);
                let (iv, text) = rest.split_first_chunk_mut::<16>().unwrap();
                let opened = key.open_in_place(&[header, nonce], iv, text);
                assert_eq!(opened, Err(Forged), "length {length} bit {bit}");
                assert!(text.iter().all(|byte| *byte == 0));
            }
        }
    }

    #[test]
    fn random_messages_agree_with_another_implementation() {
        for seed in 0..60 {
            let seed = format!("seed {seed}");
            let key = key_of(&seed);
            let dice = noise(&format!("{seed} dice"), 3);
            let plain = noise(&seed, usize::from(dice[0]) * 40 + usize::from(dice[1]));
            let strings = vec![&plain[..plain.len().min(usize::from(dice[1]))]; usize::from(dice[2] % 6)];
            let mut text = plain.clone();
            let iv = SivKey::new(&key).seal_in_place(&strings, &mut text);
            let theirs = Aes256Siv::new(&key.into()).encrypt(&strings, &plain).unwrap();
            assert_eq!([&iv[..], &text].concat(), theirs, "{seed}");
        }
    }
}
