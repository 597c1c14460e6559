"""Bars with a whisker for the spread and a mark for the goal. Left out: everything else that plots can be."""
from xml.sax.saxutils import escape

ROW, LABEL, SCALE, RIGHT = 22, 330, 420, 60


def bars(rows, title):
  """rows: (label, value, lowest, highest, goal or None), all at least 0. Gives the text of an SVG file."""
  top = max([1.0, *(highest for _, _, _, highest, _ in rows), *(goal for *_, goal in rows if goal)])
  width, height = LABEL + SCALE + RIGHT, ROW * (len(rows) + 2)

  def x(value):
    return LABEL + SCALE * value / top

  parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="white"/>', f'<text x="{LABEL}" y="15" font-weight="bold">{escape(title)}</text>']
  for index, (label, value, lowest, highest, goal) in enumerate(rows):
    y = ROW * (index + 1)
    middle = y + ROW / 2
    parts.append(f'<text x="{LABEL - 6}" y="{middle + 4}" text-anchor="end">{escape(label)}</text>')
    parts.append(f'<rect x="{LABEL}" y="{y + 4}" width="{x(value) - LABEL:.1f}" height="{ROW - 8}" fill="#4878a8"/>')
    parts.append(f'<line x1="{x(lowest):.1f}" x2="{x(highest):.1f}" y1="{middle}" y2="{middle}" stroke="black"/>')
    if goal:
      parts.append(f'<line x1="{x(goal):.1f}" x2="{x(goal):.1f}" y1="{y + 1}" y2="{y + ROW - 1}" stroke="#c03020" stroke-width="2"/>')
    parts.append(f'<text x="{max(x(value), x(highest)) + 5:.1f}" y="{middle + 4}">{value:.2f}</text>')
  return "\n".join([*parts, "</svg>"]) + "\n"
