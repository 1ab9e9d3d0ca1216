//! From the table to a drawing.

use std::fmt::Write;

use super::Row;

/// States on a fixed grid.
const PLACES: [(&str, i32, i32); 5] =
    [("unproven", 110, 70), ("up", 440, 210), ("down", 770, 70), ("trial", 110, 370), ("resting", 770, 370)];

const HEAD: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 -26 880 456\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <style>text{fill:#1f2933}.box{fill:#e3f0fb;stroke:#2b6cb0}.off{fill:#fbe3e3;stroke:#b02b2b}\
         .line{fill:none;stroke:#52606d;stroke-width:1.5}.bg{fill:#ffffff}\
         @media (prefers-color-scheme:dark){text{fill:#e4e7eb}.box{fill:#1e3a56;stroke:#63a4e0}.off{fill:#562020;stroke:#e06363}\
         .line{stroke:#9aa5b1}.bg{fill:#161b22}}</style>\n\
         <defs><marker id=\"arrow\" markerWidth=\"9\" markerHeight=\"9\" refX=\"8\" refY=\"4\" orient=\"auto\">\
         <path d=\"M0,0 L9,4 L0,8 z\" fill=\"#7b8794\"/></marker></defs>\n\
         <rect class=\"bg\" y=\"-26\" width=\"880\" height=\"456\" rx=\"8\"/>\n";

fn place(name: &str) -> (i32, i32) {
    PLACES.iter().find(|(other, ..)| *other == name).map(|(_, x, y)| (*x, *y)).unwrap()
}

/// From the table to a drawing: states on a fixed grid, one arrow for each pair of states, its label all that leads there.
pub fn draw(rows: &[Row]) -> String {
    let mut pairs: Vec<(String, String, Vec<String>)> = Vec::new();
    for row in rows.iter().filter(|row| row.state != row.next) {
        let short = row.condition.replace("misses + 1 ≥ fall", "fall").replace("oks + 1 ≥ rise", "rise");
        let short = short.split(", ").next().unwrap_or_default().to_owned();
        let label = if short.is_empty() { row.event.clone() } else { format!("{} ({short})", row.event) };
        match pairs.iter_mut().find(|(from, to, _)| *from == row.state && *to == row.next) {
            Some((.., labels)) => labels.push(label),
            None => pairs.push((row.state.clone(), row.next.clone(), vec![label])),
        }
    }
    let mut svg = HEAD.to_owned();
    for (from, to, labels) in &pairs {
        // Both directions of a pair bend to their own right, so they do not lie on each other.
        let both = pairs.iter().any(|(a, b, _)| a == to && b == from);
        arrow(&mut svg, from, to, labels, both);
    }
    for (name, x, y) in PLACES {
        let class = if matches!(name, "down" | "resting") { "off" } else { "box" };
        let _ = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"120\" height=\"44\" rx=\"8\" stroke-width=\"1.5\"/>\
             <text x=\"{x}\" y=\"{}\" text-anchor=\"middle\" font-weight=\"bold\">{name}</text>",
            x - 60,
            y - 22,
            y + 5
        );
    }
    let notes = ["With probe: begins unproven.", "Without: begins up.", "Calls go to the blue states."];
    for (n, note) in notes.iter().enumerate() {
        let _ = writeln!(svg, "<text x=\"24\" y=\"{}\">{note}</text>", 204 + 18 * n);
    }
    svg.push_str("</svg>\n");
    svg
}

/// One arrow, its label all that leads there.
fn arrow(svg: &mut String, from: &str, to: &str, labels: &[String], both: bool) {
    let ((x1, y1), (x2, y2)) = (place(from), place(to));
    let (dx, dy) = ((x2 - x1) as f64, (y2 - y1) as f64);
    let length = dx.hypot(dy);
    let (ux, uy) = (dx / length, dy / length);
    // Over "up" lies the long way from "unproven" to "down".
    let bend = if from == "unproven" && to == "down" {
        -78.0
    } else if both {
        26.0
    } else {
        0.0
    };
    let (nx, ny) = (-uy, ux);
    let reach = |u: f64, v: f64| if u.abs() * 24.0 > v.abs() * 62.0 { 62.0 / u.abs() } else { 24.0 / v.abs() };
    let r = reach(ux, uy) + 4.0;
    let shift = if both { 9.0 } else { 0.0 };
    let (ax, ay) = (x1 as f64 + ux * r + nx * shift, y1 as f64 + uy * r + ny * shift);
    let (bx, by) = (x2 as f64 - ux * r + nx * shift, y2 as f64 - uy * r + ny * shift);
    let (cx, cy) = ((ax + bx) / 2.0 + nx * bend, (ay + by) / 2.0 + ny * bend);
    let _ = writeln!(
        svg,
        "<path class=\"line\" marker-end=\"url(#arrow)\" d=\"M{ax:.0},{ay:.0} Q{cx:.0},{cy:.0} {bx:.0},{by:.0}\"/>"
    );
    let (mx, my) = ((ax + bx) / 4.0 + cx / 2.0, (ay + by) / 4.0 + cy / 2.0);
    // Beside its line: over or under a flat one, to the side that a steep one bends to.
    let flat = uy.abs() < 0.1;
    let anchor = match (flat, nx > 0.0) {
        (true, _) => "middle",
        (false, true) => "start",
        (false, false) => "end",
    };
    let lines = (labels.len() - 1) as f64 * 16.0;
    let (tx, ty) = match (flat, ny >= 0.0 && both) {
        (true, true) => (mx, my + 18.0),
        (true, false) => (mx, my - 8.0 - lines),
        (false, _) => (mx + nx.signum() * 8.0, my + if ny > 0.0 { 14.0 } else { -4.0 - lines }),
    };
    for (n, label) in labels.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<text x=\"{tx:.0}\" y=\"{:.0}\" text-anchor=\"{anchor}\">{label}</text>",
            ty + n as f64 * 16.0
        );
    }
}
