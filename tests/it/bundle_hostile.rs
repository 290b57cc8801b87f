//! Broken and hostile bundles: each is refused with a sentence that says what is wrong, before anything uses it.

use std::{fs, os::unix::fs::symlink, path::Path};

use mctl::{
    Kind,
    bundle::{Bundle, Digest, media},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::bundle_fixture::{
    Fixture, PROFILE_TYPE, blob_path, digest_of, entry, file, record, seal,
};

fn refused(name: &str, path: &Path, words: &str) {
    let error = Bundle::open(path).expect_err(name);
    assert_eq!(error.kind(), Kind::Preflight, "{name}");
    let text = error.to_string();
    assert!(text.contains(words), "{name}: {text:?} lacks {words:?}");
    assert!(text.contains(path.to_str().unwrap()), "{name}: {text}");
}

/// A layout with one image whose manifest a test may change before it is stored.
fn image(change: impl Fn(&mut Fixture, &mut Value)) -> Fixture {
    let mut fixture = Fixture::new();
    let mut manifest = fixture.manifest(&[b"layer"]);
    change(&mut fixture, &mut manifest);
    let descriptor = fixture.document(media::MANIFEST, &manifest);
    fixture.root("a.b/c:d", descriptor);
    fixture
}

/// A layout with one image whose descriptor a test may change.
fn root(change: impl Fn(&mut Value)) -> Fixture {
    let mut fixture = image(|_, _| {});
    change(&mut fixture.roots[0]);
    fixture
}

fn with(path: &str, content: &[u8]) -> Fixture {
    let mut fixture = Fixture::usual();
    fixture.files.insert(path.to_owned(), content.to_vec());
    fixture
}

fn without(path: &str) -> Fixture {
    let mut fixture = Fixture::usual();
    fixture.no_index = path == "index.json";
    fixture.files.remove(path);
    fixture
}

fn layer_is(content: Option<&[u8]>) -> Fixture {
    let mut fixture = image(|_, _| {});
    let path = blob_path(&Digest::of(b"layer"));
    match content {
        Some(content) => fixture.files.insert(path, content.to_vec()),
        None => fixture.files.remove(&path),
    };
    fixture
}

/// Indexes in indexes.
fn nested(depth: usize) -> Fixture {
    let mut fixture = Fixture::new();
    let mut inner = fixture.image(&[b"layer"]);
    for _ in 0..depth {
        let index = json!({"schemaVersion": 2, "manifests": [inner]});
        inner = fixture.document(media::INDEX, &index);
    }
    fixture.root("a.b/c:d", inner);
    fixture
}

fn index_over(children: &Value) -> Fixture {
    let mut fixture = Fixture::new();
    let index = fixture.document(media::INDEX, children);
    fixture.root("a.b/c:d", index);
    fixture
}

fn manifest_is(content: &[u8]) -> Fixture {
    let mut fixture = Fixture::new();
    let descriptor = fixture.blob(media::MANIFEST, content);
    fixture.root("a.b/c:d", descriptor);
    fixture
}

fn altered_manifest() -> Fixture {
    let mut fixture = image(|_, _| {});
    let path = blob_path(&digest_of(&fixture.roots[0]));
    let bytes = fixture.files.get_mut(&path).unwrap();
    let place = bytes.iter().position(|b| *b == b'2').unwrap();
    bytes[place] = b'3';
    fixture
}

fn twice() -> Fixture {
    let mut fixture = image(|_, _| {});
    let other = fixture.image(&[b"other"]);
    fixture.root("a.b/c:d", other);
    fixture
}

fn two_descriptions() -> Fixture {
    let mut fixture = image(|_, _| {});
    let mut again = fixture.roots[0].clone();
    again["mediaType"] = media::DOCKER_MANIFEST.into();
    fixture.roots.push(again);
    fixture
}

#[test]
fn documents_that_lie() {
    let big = vec![b' '; 17 * 1024 * 1024];
    let deep = "[".repeat(100_000);
    let missing = json!({"schemaVersion": 2, "manifests": [{"mediaType": media::MANIFEST, "digest": Digest::of(b"x"), "size": 1}]});
    let cases: Vec<(&str, Fixture, &str)> = vec![
        ("no marker", without("oci-layout"), "no oci-layout"),
        (
            "marker is no JSON",
            with("oci-layout", b"1.0.0\n"),
            "oci-layout",
        ),
        (
            "marker of version 2",
            with("oci-layout", br#"{"imageLayoutVersion":"2.0.0"}"#),
            "version",
        ),
        (
            "huge marker",
            with("oci-layout", &big[..5000]),
            "oci-layout",
        ),
        ("empty marker", with("oci-layout", b""), "oci-layout"),
        ("no index", without("index.json"), "no index.json"),
        ("empty index", with("index.json", b""), "index.json"),
        (
            "index is no JSON",
            with("index.json", b"\xff\xfe"),
            "index.json",
        ),
        ("index is a list", with("index.json", b"[]"), "index.json"),
        (
            "index is nested",
            with("index.json", deep.as_bytes()),
            "index.json",
        ),
        (
            "index of schema 1",
            with("index.json", br#"{"schemaVersion":1,"manifests":[]}"#),
            "schema version",
        ),
        (
            "index without list",
            with("index.json", br#"{"schemaVersion":2}"#),
            "no manifests",
        ),
        (
            "index with an object",
            with("index.json", br#"{"schemaVersion":2,"manifests":{}}"#),
            "index.json",
        ),
        ("huge index", with("index.json", &big), "more than"),
        (
            "manifest missing",
            without(&blob_path(&digest_of(&Fixture::usual().roots[0]))),
            "is missing",
        ),
        (
            "manifest longer than told",
            root(|d| d["size"] = 10.into()),
            "bytes where",
        ),
        (
            "manifest shorter than told",
            root(|d| d["size"] = 100_000.into()),
            "bytes where",
        ),
        (
            "negative size",
            root(|d| d["size"] = (-1).into()),
            "index.json",
        ),
        (
            "size beyond 64 bits",
            root(|d| d["size"] = json!(1e30)),
            "index.json",
        ),
        (
            "digest in capitals",
            root(|d| d["digest"] = d["digest"].as_str().unwrap().to_uppercase().into()),
            "no digest",
        ),
        (
            "digest as a path",
            root(|d| d["digest"] = "sha256:../../../../etc/passwd".into()),
            "no digest",
        ),
        (
            "digest of a short hash",
            root(|d| d["digest"] = "sha256:00".into()),
            "no digest",
        ),
        (
            "digest of MD5",
            root(|d| d["digest"] = format!("md5:{}", "0".repeat(32)).into()),
            "no digest",
        ),
        ("manifest altered", altered_manifest(), "altered"),
        (
            "foreign media type",
            root(|d| d["mediaType"] = "text/html".into()),
            "media type",
        ),
        (
            "manifest's own media type differs",
            image(|_, m| m["mediaType"] = media::DOCKER_MANIFEST.into()),
            "another media type",
        ),
        (
            "manifest told to be an index",
            root(|d| d["mediaType"] = media::INDEX.into()),
            "another media type",
        ),
        (
            "manifest without configuration",
            image(|_, m| m["config"] = Value::Null),
            "lacks",
        ),
        (
            "manifest without layers",
            image(|_, m| m["layers"] = Value::Null),
            "lacks",
        ),
        ("manifest is null", manifest_is(b"null"), "sha256:"),
        ("manifest is rubbish", manifest_is(b"\0\0\0"), "sha256:"),
        (
            "manifest of 5 MB",
            manifest_is(&big[..5_000_000]),
            "more than",
        ),
        (
            "configuration missing",
            image(|_, m| m["config"]["digest"] = json!(Digest::of(b"x"))),
            "is missing",
        ),
        ("layer missing", layer_is(None), "is missing"),
        ("layer truncated", layer_is(Some(b"lay")), "truncated"),
        (
            "layer longer",
            layer_is(Some(b"layer and more")),
            "bytes where",
        ),
        ("layer empty", layer_is(Some(b"")), "bytes where"),
        (
            "layer's size is a lie",
            image(|_, m| m["layers"][0]["size"] = u64::MAX.into()),
            "bytes where",
        ),
        (
            "one digest, two sizes",
            image(|_, m| {
                let mut l = m["layers"][0].clone();
                l["size"] = 1.into();
                m["layers"].as_array_mut().unwrap().push(l);
            }),
            "bytes where",
        ),
        (
            "layer's digest as a path",
            image(|_, m| m["layers"][0]["digest"] = "sha256:../x".into()),
            "no digest",
        ),
        (
            "name that is none",
            root(|d| d["annotations"] = json!({"org.opencontainers.image.ref.name": "../../x"})),
            "no image reference",
        ),
        ("name twice", twice(), "there twice"),
        ("described in two ways", two_descriptions(), "two ways"),
        ("index of nothing there", index_over(&missing), "none of"),
        (
            "index without list below",
            index_over(&json!({"schemaVersion": 2})),
            "no manifests",
        ),
        ("deep indexes", nested(12), "too deeply"),
    ];
    for (name, fixture, words) in &cases {
        let (_folder, path) = fixture.folder();
        refused(&format!("{name}, folder"), &path, words);
        let (_folder, path) = fixture.tar_file();
        refused(&format!("{name}, tar"), &path, words);
    }
}

#[test]
fn what_is_odd_but_sound_passes() {
    for fixture in [
        nested(5),
        index_over(&json!({"schemaVersion": 2, "manifests": []})),
    ] {
        let (_folder, path) = fixture.folder();
        Bundle::open(&path).unwrap();
    }
}

/// A usual tar with something in front, where readers look first.
fn before(start: &[u8]) -> Vec<u8> {
    [start, &Fixture::usual().tar()].concat()
}

fn header(change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut tar = Fixture::usual().tar();
    change(&mut tar[..512]);
    tar
}

fn sized(field: &[u8]) -> Vec<u8> {
    header(|h| {
        h[124..124 + field.len()].copy_from_slice(field);
        seal(h);
    })
}

fn pax(kind: u8, records: &str) -> Vec<u8> {
    before(
        &[
            entry("x", kind, records.len() as u64, records.as_bytes()),
            entry("a", b'0', 1, b"a"),
        ]
        .concat(),
    )
}

#[test]
fn archives_that_lie() {
    let tar = Fixture::usual().tar();
    let one = |path: &str, kind: u8| before(&entry(path, kind, 0, b""));
    let many: Vec<u8> = (0..3).flat_map(|_| entry("same", b'0', 1, b"a")).collect();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "empty"),
        ("shorter than a header", tar[..100].to_vec(), "empty"),
        (
            "text",
            b"no bundle at all\n".repeat(100),
            "malformed number",
        ),
        (
            "random",
            (0..2048_u32).map(|i| (i * 7919 % 251) as u8 | 1).collect(),
            "",
        ),
        ("cut in a header", tar[..1024 + 100].to_vec(), "truncated"),
        (
            "cut in content",
            tar[..tar.len() - 2000].to_vec(),
            "truncated",
        ),
        ("no end", tar[..tar.len() - 1024].to_vec(), "truncated"),
        ("ends at once", vec![0; 1024], "no oci-layout"),
        ("symbolic link", one("blobs/x", b'2'), "link"),
        ("hard link", one("blobs/x", b'1'), "link"),
        ("character device", one("x", b'3'), "type"),
        ("block device", one("x", b'4'), "type"),
        ("pipe", one("x", b'6'), "type"),
        ("contiguous file", one("x", b'7'), "type"),
        ("GNU sparse file", one("x", b'S'), "type"),
        ("GNU volume label", one("x", b'V'), "type"),
        ("absolute path", one("/etc/passwd", b'0'), "unsafe path"),
        ("parent folder", one("../x", b'0'), "unsafe path"),
        (
            "parent folder inside",
            one("blobs/../../x", b'0'),
            "unsafe path",
        ),
        ("empty part", one("blobs//x", b'0'), "unsafe path"),
        ("dot part", one("blobs/./x", b'0'), "unsafe path"),
        ("backslash", one("blobs\\..\\x", b'0'), "unsafe path"),
        ("no name", one("", b'0'), "unsafe path"),
        ("file named as a folder", one("x/", b'0'), "unsafe path"),
        ("folder outside", one("../", b'5'), "unsafe path"),
        ("absolute folder", one("/", b'5'), "unsafe path"),
        ("two entries of a name", before(&many), "two entries"),
        (
            "two indexes",
            before(&entry("index.json", b'0', 2, b"{}")),
            "two entries",
        ),
        (
            "two indexes, one dotted",
            before(&entry("./index.json", b'0', 2, b"{}")),
            "two entries",
        ),
        ("wrong checksum", header(|h| h[0] ^= 1), "no tar file"),
        (
            "wrong checksum later",
            {
                let mut t = before(&entry("a", b'0', 0, b""));
                t[512] ^= 1;
                t
            },
            "checksum",
        ),
        (
            "size is no number",
            sized(b"zzzzzzzzzzz\0"),
            "malformed number",
        ),
        ("size of 8 GiB", sized(b"77777777777\0"), "truncated"),
        (
            "binary size beyond the file",
            sized(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"),
            "truncated",
        ),
        (
            "negative binary size",
            sized(&[0xff; 12]),
            "malformed number",
        ),
        (
            "binary size beyond 64 bits",
            sized(b"\x80\0\0\x01\0\0\0\0\0\0\0\0"),
            "malformed number",
        ),
        (
            "extended path outside",
            pax(b'x', &record("path", "../../x")),
            "unsafe path",
        ),
        (
            "extended path with zero",
            pax(b'x', &record("path", "a\0b")),
            "unsafe path",
        ),
        ("extended link", pax(b'x', &record("linkpath", "x")), "link"),
        (
            "extended size beyond the file",
            pax(b'x', &record("size", "18446744073709551615")),
            "truncated",
        ),
        (
            "extended size no number",
            pax(b'x', &record("size", "-1")),
            "malformed",
        ),
        (
            "extended sparse",
            pax(b'x', &record("GNU.sparse.major", "1")),
            "sparse",
        ),
        (
            "extended length wrong",
            pax(b'x', "99 path=x\n"),
            "malformed",
        ),
        ("extended length zero", pax(b'x', "0 path=x\n"), "malformed"),
        ("extended without end", pax(b'x', "8 path=x"), "malformed"),
        ("extended without key", pax(b'x', "7 path\n"), "malformed"),
        ("path for all", pax(b'g', &record("path", "x")), "for all"),
        ("size for all", pax(b'g', &record("size", "1")), "for all"),
        (
            "extension of 1 MiB",
            before(&entry("x", b'x', 1 << 20, &vec![b'a'; 1 << 20])),
            "too long",
        ),
        (
            "long name outside",
            before(&[entry("x", b'L', 5, b"../x\0"), entry("a", b'0', 0, b"")].concat()),
            "unsafe path",
        ),
        (
            "name is no text",
            before(&{
                let mut e = entry("a", b'0', 0, b"");
                e[0] = 0xff;
                seal(&mut e);
                e
            }),
            "UTF-8",
        ),
        (
            "a second archive behind",
            [tar.clone(), tar.clone()].concat(),
            "follows its end",
        ),
        (
            "much behind the end",
            [tar.clone(), vec![0; 3 << 20]].concat(),
            "follows its end",
        ),
        (
            "gzip",
            [b"\x1f\x8b\x08\0\0\0".to_vec(), vec![0; 600]].concat(),
            "gunzip",
        ),
        (
            "zstd",
            [b"\x28\xb5\x2f\xfd\0\0".to_vec(), vec![0; 600]].concat(),
            "unzstd",
        ),
        (
            "xz",
            [b"\xfd7zXZ\0".to_vec(), vec![0; 600]].concat(),
            "unxz",
        ),
        (
            "bzip2",
            [b"BZh9\0\0".to_vec(), vec![0; 600]].concat(),
            "bunzip2",
        ),
    ];
    for (name, bytes, words) in &cases {
        let (_folder, path) = file(bytes);
        refused(name, &path, words);
    }
}

#[test]
fn folders_that_point_elsewhere() {
    let layer = blob_path(&Digest::of(&[7; 3000]));
    type Change = Box<dyn Fn(&Path)>;
    let replace = |path: String, with: fn(&Path)| -> Change {
        Box::new(move |root: &Path| {
            let at = root.join(&path);
            let aside = root.join("aside");
            fs::rename(&at, &aside).unwrap();
            with(&at);
        })
    };
    let link = |at: &Path| {
        symlink(
            at.ancestors()
                .find(|p| p.join("aside").exists())
                .unwrap()
                .join("aside"),
            at,
        )
        .unwrap()
    };
    let cases: Vec<(&str, Change, &str)> = vec![
        (
            "index is a link",
            replace("index.json".into(), link),
            "link",
        ),
        (
            "marker is a link",
            replace("oci-layout".into(), link),
            "link",
        ),
        ("layer is a link", replace(layer.clone(), link), "link"),
        (
            "layer is a dead link",
            replace(layer.clone(), |at| symlink("/nowhere", at).unwrap()),
            "link",
        ),
        (
            "layer is a folder",
            replace(layer.clone(), |at| fs::create_dir(at).unwrap()),
            "no file",
        ),
        (
            "layer is a device",
            replace(layer.clone(), |at| symlink("/dev/zero", at).unwrap()),
            "link",
        ),
        (
            "layer is a pipe",
            replace(layer, |at| {
                rustix::fs::mknodat(
                    rustix::fs::CWD,
                    at,
                    rustix::fs::FileType::Fifo,
                    rustix::fs::Mode::RUSR,
                    0,
                )
                .unwrap()
            }),
            "no file",
        ),
        (
            "blobs is a link",
            replace("blobs".into(), link),
            "no folder",
        ),
        (
            "blobs/sha256 is a link",
            replace("blobs/sha256".into(), link),
            "no folder",
        ),
        (
            "blobs is a file",
            replace("blobs".into(), |at| fs::write(at, "").unwrap()),
            "no folder",
        ),
    ];
    for (name, change, words) in cases {
        let (_folder, path) = Fixture::usual().folder();
        change(&path);
        refused(name, &path, words);
    }
    refused("nothing", Path::new("/nonexistent/bundle"), "No such file");
    refused("device", Path::new("/dev/null"), "neither");
}

#[test]
fn profiles_that_are_none() {
    let good = crate::bundle_fixture::PROFILE;
    for (name, text, words) in [
        ("rubbish", "{", ""),
        (
            "other kind",
            &good.replace("kind: Profile", "kind: Other"),
            "no Profile",
        ),
        (
            "other version",
            &good.replace("v1alpha1", "v9"),
            "no Profile",
        ),
        (
            "unknown field",
            &good.replace("spec:", "spec2: {}\nspec:"),
            "spec2",
        ),
        (
            "wrong type",
            &good.replace("[notification-controller]", "7"),
            "7",
        ),
        ("no UTF-8", "\u{fffd}", ""),
    ] {
        let mut fixture = Fixture::new();
        let profile = fixture.artifact(PROFILE_TYPE, text.as_bytes());
        fixture.root("mctl.giantswarm.io/profile:x", profile);
        let (_folder, path) = fixture.folder();
        let error = Bundle::open(&path).unwrap().profile().expect_err(name);
        assert_eq!(error.kind(), Kind::Preflight, "{name}");
        assert!(error.to_string().contains(words), "{name}: {error}");
    }
    let mut fixture = Fixture::usual();
    let path = blob_path(&Digest::of(good.as_bytes()));
    fixture.files.get_mut(&path).unwrap()[60] ^= 1;
    let (_folder, path) = fixture.folder();
    let error = Bundle::open(&path).unwrap().profile().unwrap_err();
    assert!(error.to_string().contains("altered"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens to a bundle on its way, reading it ends in an error or in content that verifies or does not; never otherwise.
    #[test]
    fn damaged_archives_never_confuse_the_reader(
        cut in 0..20_usize,
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 0..4),
    ) {
        let whole = Fixture::usual().tar();
        let mut tar = whole.clone();
        tar.truncate(whole.len() - cut * 97);
        for (place, bit) in &flips {
            let place = place.index(tar.len());
            tar[place] ^= 1 << bit;
        }
        let (_folder, path) = file(&tar);
        if let Ok(bundle) = Bundle::open(&path) {
            if bundle.verify(&|_| {}).is_ok() {
                for reference in bundle.references() {
                    prop_assert!(bundle.resolve(&reference).is_some());
                }
            }
            let _ = bundle.profile();
        }
    }
}
