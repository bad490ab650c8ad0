//! Records that must be signed.

use super::{Machine, directory, hit, look_up_one, result};
use crate::{
    Answer, CacheOptions, Location, PublicKey, Published, Refusal, RemoteCache, SigningKey, inline_records,
    new_key_pair, read_inline,
};

fn pair() -> (SigningKey, PublicKey) {
    let text = new_key_pair().unwrap();
    let key = SigningKey::parse(&text.private).unwrap();
    let public = PublicKey::parse_all(&text.public).unwrap();
    assert_eq!(public, [key.public()]);
    assert_eq!(public[0].to_pem(), text.public);
    (key, public[0])
}

fn signing(machine: &Machine, location: &Location, key: &SigningKey) -> RemoteCache {
    machine.open(location, CacheOptions { sign: Some(key.clone()), ..CacheOptions::default() })
}

fn trusting(machine: &Machine, location: &Location, keys: &[PublicKey]) -> RemoteCache {
    machine.open(location, CacheOptions { trust: keys.to_vec(), ..CacheOptions::default() })
}

fn refusal(answer: Answer) -> Refusal {
    match answer {
        Answer::Refused(refusal) => refusal,
        other => panic!("a refusal: {other:?}"),
    }
}

#[tokio::test]
async fn what_is_not_signed_by_a_trusted_key_is_a_miss() {
    let (machine, dir) = (Machine::new(), tempfile::tempdir().unwrap());
    let location = directory(dir.path());
    let (old, new, other) = (pair(), pair(), pair());
    let [signed, by_old, unsigned] = ["signed", "by-old", "unsigned"].map(result);
    machine.publish(&signing(&machine, &location, &new.0), &signed).await.unwrap();
    machine.publish(&signing(&machine, &location, &old.0), &by_old).await.unwrap();
    machine.publish(&machine.cache(&location), &unsigned).await.unwrap();

    // Keys are rotated by trusting both for a while.
    let both = trusting(&machine, &location, &[old.1, new.1]);
    assert_eq!(hit(&look_up_one(&both, &signed.record.key).await).signer, Some(new.1));
    assert_eq!(hit(&look_up_one(&both, &by_old.record.key).await).signer, Some(old.1));
    let only_new = trusting(&machine, &location, &[new.1]);
    assert_eq!(refusal(look_up_one(&only_new, &by_old.record.key).await), Refusal::UntrustedKey);
    assert_eq!(refusal(look_up_one(&only_new, &unsigned.record.key).await), Refusal::Unsigned);
    let none = trusting(&machine, &location, &[other.1]);
    assert_eq!(refusal(look_up_one(&none, &signed.record.key).await), Refusal::UntrustedKey);
    // A reader that requires nothing reads all of them.
    let all = machine.cache(&location);
    assert_eq!(hit(&look_up_one(&all, &signed.record.key).await).signer, None);

    // One who signs replaces a record that lacks the signature, and no other.
    let again = signing(&machine, &location, &new.0);
    assert!(matches!(machine.publish(&again, &unsigned).await.unwrap(), Published::Sent { .. }));
    assert_eq!(machine.publish(&again, &signed).await.unwrap(), Published::Present);
    let only_new = trusting(&machine, &location, &[new.1]);
    hit(&look_up_one(&only_new, &unsigned.record.key).await);
}

#[tokio::test]
async fn a_signature_is_that_of_one_record_with_its_layer() {
    let (machine, dir) = (Machine::new(), tempfile::tempdir().unwrap());
    let location = directory(dir.path());
    let (key, public) = pair();
    let (ours, theirs) = (result("ours"), result("theirs"));
    let cache = signing(&machine, &location, &key);
    machine.publish(&cache, &ours).await.unwrap();
    machine.publish(&cache, &theirs).await.unwrap();
    let place = &cache.inner.place;
    let (our_tag, their_tag) =
        (cache.inner.record_tag(&ours.record.key), cache.inner.record_tag(&theirs.record.key));
    let manifest = String::from_utf8(place.manifest(&our_tag).await.unwrap().unwrap()).unwrap();
    // The layer of another record under a signature that stays.
    let swapped = manifest.replace(&ours.layer.digest.to_string(), &theirs.layer.digest.to_string());
    assert_ne!(swapped, manifest);
    place.put_manifest(&our_tag, swapped.into_bytes()).await.unwrap();
    let cache = trusting(&machine, &location, &[public]);
    assert_eq!(refusal(look_up_one(&cache, &ours.record.key).await), Refusal::Altered);
    // A signed record under the key of another step.
    place.put_manifest(&their_tag, manifest.into_bytes()).await.unwrap();
    let cache = trusting(&machine, &location, &[public]);
    assert_eq!(refusal(look_up_one(&cache, &theirs.record.key).await), Refusal::OtherKey);
}

#[test]
fn key_files_are_those_of_other_programs() {
    // Made by `openssl genpkey -algorithm ed25519`, and `openssl pkey -pubout` of it.
    let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
    let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";
    let key = SigningKey::parse(private).unwrap();
    assert_eq!(PublicKey::parse_all(public).unwrap(), [key.public()]);
    assert_eq!(PublicKey::parse_all(&public.repeat(3)).unwrap().len(), 3);
    let error = |text: &str| PublicKey::parse_all(text).unwrap_err().to_string();
    assert_eq!(error(private), "it holds no PEM block `PUBLIC KEY`");
    assert_eq!(error(&public.replace("MCow", "AAAA")), "the PEM block `PUBLIC KEY` holds no Ed25519 key");
    assert_eq!(SigningKey::parse(public).unwrap_err().to_string(), "it holds no PEM block `PRIVATE KEY`");
    assert!(!format!("{key:?} {:?}", new_key_pair().unwrap()).contains("PRIVATE"), "secrets are not shown");
}

#[test]
fn records_in_an_image_are_verified_as_others_are() {
    let (key, public) = pair();
    let (a, b) = (result("a"), result("b"));
    let (name, member) = inline_records([&a.record, &b.record], Some(&key));
    let layer = |result: &super::StepResult| {
        dbuild_oci::Descriptor::new(result.layer.media_type.clone(), result.layer.digest, result.layer.size)
    };
    let config = |member: &serde_json::Value, diff_ids: &[String]| {
        let config = serde_json::json!({
            "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}, name.clone(): member.clone(),
        });
        serde_json::to_vec(&config).unwrap()
    };
    let diff_ids = [a.layer.diff_id.to_string(), b.layer.diff_id.to_string()];
    let layers = [layer(&a), layer(&b)];
    let answers = read_inline(&config(&member, &diff_ids), &layers, &[public]).unwrap();
    assert_eq!(hit(&answers[1]).record, b.record);
    assert_eq!(hit(&answers[1]).layer, Some(layer(&b)));
    assert!(!hit(&answers[1]).has_index());
    assert_eq!(hit(&answers[0]).signer, Some(public));

    // Layers that are not the image's; another key; an image without a cache; another version.
    let answers = read_inline(&config(&member, &diff_ids[..1]), &layers[..1], &[public]).unwrap();
    assert_eq!(refusal(answers[1].clone()), Refusal::Missing("its layer"));
    let answers = read_inline(&config(&member, &diff_ids), &layers, &[pair().1]).unwrap();
    assert_eq!(refusal(answers[0].clone()), Refusal::UntrustedKey);
    let (_, unsigned) = inline_records([&a.record], None);
    let answers = read_inline(&config(&unsigned, &diff_ids), &layers, &[public]).unwrap();
    assert_eq!(refusal(answers[0].clone()), Refusal::Unsigned);
    assert!(read_inline(b"{}", &[], &[]).unwrap().is_empty());
    let later = serde_json::json!({"format": 9});
    assert_eq!(read_inline(&config(&later, &diff_ids), &layers, &[]).unwrap_err(), Refusal::Version(9));
}
