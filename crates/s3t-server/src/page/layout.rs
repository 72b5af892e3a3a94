//! The frame of every page.

use maud::{DOCTYPE, Markup, html};

/// A page around its content.
pub(super) fn page(title: &str, signed_in: bool, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " \u{b7} S3T" }
                link rel="icon" type="image/svg+xml" href="/ui/icon.svg";
                link rel="stylesheet" href="/ui/style.css";
                script src="/ui/live.js" defer {}
            }
            body {
                a.skip href="#main" { "To the content" }
                header {
                    a.brand href="/ui" { "S3T" }
                    nav aria-label="Pages" {
                        a href="/ui" { "Overview" }
                        a href="/openapi.json" { "API" }
                        a href="/metrics" { "Metrics" }
                        @if signed_in { form method="post" action="/ui/sign-out" { button.plain type="submit" { "Sign out" } } }
                    }
                }
                main #main { (content) }
                footer { p { "S3T " (env!("CARGO_PKG_VERSION")) ". The page is whole without JavaScript; with it, it follows what happens." } }
            }
        }
    }
}
