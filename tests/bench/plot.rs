//! Throughput over the number of accounts, as an SVG with both axes logarithmic.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 50.0;
const COLOURS: [&str; 6] = ["#0b6e4f", "#1f4e9c", "#b3541e", "#6b3fa0", "#8a1c3b", "#555555"];

/// A line of the plot.
#[derive(Debug)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Accounts, and how much a second.
    pub points: Vec<(f64, f64)>,
}

/// The plot of these lines.
pub fn svg(title: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| line.points.iter().copied());
    let most_x = points().map(|(x, _)| x).fold(10.0, f64::max).log10();
    let (least_y, most_y) = points()
        .map(|(_, y)| y.max(1.0).log10())
        .fold((f64::MAX, 0.0_f64), |(least, most), y| (least.min(y), most.max(y)));
    let (low, high) = (least_y.floor(), most_y.ceil().max(least_y.floor() + 1.0));
    // No account at all stands where one would.
    let x = |n: f64| LEFT + n.max(1.0).log10() / most_x * (WIDTH - LEFT - RIGHT);
    let y = |v: f64| TOP + (high - v.max(1.0).log10()) / (high - low) * (HEIGHT - TOP - BOTTOM);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"18\" font-size=\"14\">{title}</text>\n"
    );
    for decade in low as i32..=high as i32 {
        let value = 10_f64.powi(decade);
        let at = y(value);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}/s</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0
        );
    }
    for decade in 0..=most_x as i32 {
        let (value, label) =
            (10_f64.powi(decade), ["empty", "10", "100", "1k", "10k", "100k", "1M"]);
        let label = label.get(decade as usize).copied().unwrap_or("");
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            x(value),
            HEIGHT - BOTTOM + 18.0
        );
    }
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"{}\">accounts</text>", HEIGHT - 10.0);
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let path: Vec<String> =
            line.points.iter().map(|&(n, v)| format!("{:.1},{:.1}", x(n), y(v))).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for &(n, v) in &line.points {
            let _ = writeln!(
                out,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                x(n),
                y(v)
            );
        }
        if let Some(&(n, v)) = line.points.last() {
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>",
                x(n) + 8.0,
                y(v) + 4.0,
                line.name
            );
        }
    }
    out + "</svg>\n"
}
