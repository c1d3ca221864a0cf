//! A message as a page that looks the same in every mail program: one table, styles in the elements, no pictures.

use super::message::{Change, Message};
use super::text;
use crate::base::markup::escaped;

const FONT: &str = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif";

/// The whole message.
pub fn html(message: &Message) -> String {
    if let Some(body) = &message.body {
        return body.html.clone();
    }
    let colour = message.state.colour();
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
         <body style=\"margin:0;padding:16px;background:#f4f5f7;{FONT};color:#1d2430;font-size:14px;line-height:1.5\">\n\
         <table role=\"presentation\" width=\"100%\" cellpadding=\"0\" cellspacing=\"0\" style=\"max-width:640px;margin:0 auto;\
         background:#ffffff;border:1px solid #dfe3e8;border-top:6px solid #{colour:06x};border-radius:6px\">\n\
         <tr><td style=\"padding:20px 24px 4px\"><div style=\"font-size:12px;letter-spacing:.06em;color:#{colour:06x};\
         font-weight:700\">{state}</div><div style=\"font-size:18px;font-weight:600\">{title}</div></td></tr>\n",
        title = escaped(&message.title),
        state = message.state.name().to_uppercase(),
    );
    for notice in &message.notices {
        let next = match notice.change {
            Change::Recovered => String::new(),
            _ => format!("<br><span style=\"color:#5b6675\">Next: {}</span>", escaped(&notice.next)),
        };
        page.push_str(&format!(
            "<tr><td style=\"padding:8px 24px\"><b>{}</b>{next}</td></tr>\n",
            escaped(&text::line(notice, message.time))
        ));
    }
    let facts = message.facts();
    if !facts.is_empty() {
        page.push_str("<tr><td style=\"padding:8px 24px\"><table role=\"presentation\" cellpadding=\"0\" cellspacing=\"0\" width=\"100%\" style=\"font-size:14px\">\n");
        for (name, value) in facts {
            page.push_str(&format!(
                "<tr><td style=\"padding:4px 16px 4px 0;color:#5b6675;border-top:1px solid #eef0f3;width:110px\">{name}</td>\
                 <td style=\"padding:4px 0;border-top:1px solid #eef0f3\">{}</td></tr>\n",
                escaped(&value)
            ));
        }
        page.push_str("</table></td></tr>\n");
    }
    for problem in message.night.iter().flat_map(|night| &night.problems) {
        page.push_str(&format!("<tr><td style=\"padding:2px 24px;color:#c62828\">{}</td></tr>\n", escaped(problem)));
    }
    page.push_str(&format!(
        "<tr><td style=\"padding:12px 24px 4px\"><b>Next:</b> {}</td></tr>\n\
         <tr><td style=\"padding:4px 24px 20px;color:#8a94a3;font-size:12px\">Keepstone on {}, message {} of {}</td></tr>\n\
         </table></body></html>\n",
        escaped(&message.next),
        escaped(&message.host),
        message.id,
        message.moment(),
    ));
    page
}
