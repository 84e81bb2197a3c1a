//! The image's files: whole, in ranges, or not there.

use super::*;

#[tokio::test]
async fn files_are_sent_whole_in_ranges_and_as_heads_with_the_right_length() {
    let bench = managed();
    let (status, headers, text) = bench.ask("10.0.0.2", "HEAD /files/vmlinuz", &[]).await;
    assert_eq!((status, text.as_str()), (200, ""));
    assert_eq!(headers["content-length"], "10");
    assert_eq!(bench.stages(0), []);
    let range = bench.ask("10.0.0.2", "GET /files/vmlinuz", &[("range", "bytes=2-4")]).await;
    assert_eq!((range.0, range.2.as_str()), (206, "234"));
    assert_eq!(range.1["content-range"], "bytes 2-4/10");
    assert_eq!(bench.stages(0), []);
    assert_eq!(bench.ask("10.0.0.2", "GET /files/vmlinuz", &[]).await.2, "0123456789");
    assert_eq!(bench.stages(0), [(Stage::Kernel, 10)]);
    let rest = bench.ask("10.0.0.3", "GET /files/vmlinuz", &[("range", "bytes=7-")]).await;
    assert_eq!((rest.0, rest.2.as_str()), (206, "789"));
    assert_eq!(bench.stages(1), [(Stage::Kernel, 10)]);
    assert_eq!(bench.ask("10.0.0.2", "GET /files/nope", &[]).await.0, 404);
    assert_eq!(bench.ask("10.0.0.2", "GET /files/..%2f..%2fetc%2fpasswd", &[]).await.0, 404);
}

#[tokio::test]
async fn odd_ranges_are_answered_as_the_standard_wants_it() {
    let bench = managed();
    let ask = |headers: Vec<(&'static str, String)>| {
        let bench = &bench;
        async move {
            let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
            bench.ask("10.0.0.9", "GET /files/vmlinuz", &headers).await
        }
    };
    let date = ask(vec![]).await.1["last-modified"].to_str().unwrap().to_owned();
    let old = "Sun, 06 Nov 1994 08:49:37 GMT".to_owned();
    let range = |text: &str| vec![("range", text.to_owned())];
    let if_range = |text: &str| vec![("range", "bytes=2-4".into()), ("if-range", text.into())];
    for (headers, status, text, content_range) in [
        (range("bytes=7-"), 206, "789", Some("bytes 7-9/10")),
        (range("bytes=-30"), 206, "0123456789", Some("bytes 0-9/10")),
        (range("bytes=0-99999999999999999999999"), 206, "0123456789", Some("bytes 0-9/10")),
        (range("bytes=10-"), 416, "", Some("bytes */10")),
        (range("items=0-1"), 200, "0123456789", None),
        (range("bytes=0-1,4-5"), 200, "0123456789", None),
        (if_range(&date), 206, "234", Some("bytes 2-4/10")),
        (if_range(&old), 200, "0123456789", None),
        (if_range("\"tag\""), 200, "0123456789", None),
        (vec![("if-modified-since", date.clone())], 304, "", None),
    ] {
        let (got, answered, body) = ask(headers.clone()).await;
        let got_range = answered.get("content-range").map(|value| value.to_str().unwrap());
        assert_eq!((got, body.as_str(), got_range), (status, text, content_range), "{headers:?}");
    }
    let head = bench.ask("10.0.0.9", "HEAD /files/vmlinuz", &[("range", "bytes=2-4")]).await;
    assert_eq!((head.0, &head.1["content-length"]), (200, &"10".parse().unwrap()));
}

#[tokio::test]
async fn a_file_that_has_gone_from_the_disk_is_our_fault() {
    let bench = managed();
    fs::remove_file(bench.folder.path().join("vmlinuz")).unwrap();
    for method in ["GET", "HEAD"] {
        let request = format!("{method} /files/vmlinuz");
        assert_eq!(bench.ask("10.0.0.2", &request, &[]).await.0, 500, "{method}");
    }
    assert_eq!(bench.stages(0), []);
}
