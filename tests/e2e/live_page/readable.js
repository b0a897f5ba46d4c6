// All visible text of the page: its words, its size in pixels, and its contrast by the formula of WCAG 2.2.
// https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
() => {
  const brush = document.createElement("canvas").getContext("2d", {willReadFrequently: true});

  /** Red, green, blue (0–255) and alpha (0–1), however the colour is written. */
  function channels(colour) {
    brush.clearRect(0, 0, 1, 1);
    brush.fillStyle = colour;
    brush.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = brush.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  }

  function over(above, below) {
    const alpha = above[3];
    return [0, 1, 2].map((each) => above[each] * alpha + below[each] * (1 - alpha)).concat(1);
  }

  function ground(node) {
    if (node === null) return [255, 255, 255, 1];
    const own = channels(getComputedStyle(node).backgroundColor);
    return own[3] === 1 ? own : over(own, ground(node.parentElement));
  }

  function luminance(colour) {
    const [red, green, blue] = colour.slice(0, 3).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  }

  function opacity(node) {
    return node === null ? 1 : getComputedStyle(node).opacity * opacity(node.parentElement);
  }

  function contrast(node) {
    const style = getComputedStyle(node);
    const ink = channels(node instanceof SVGElement ? style.fill : style.color);
    ink[3] *= opacity(node);
    const [darker, lighter] = [luminance(over(ink, ground(node))), luminance(ground(node))].sort((a, b) => a - b);
    return (lighter + 0.05) / (darker + 0.05);
  }

  /** Those for screen readers alone are one pixel wide. */
  function isSeen(node) {
    return node.checkVisibility({visibilityProperty: true}) && !node.closest(".away");
  }

  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    const words = walker.currentNode.textContent.trim();
    if (words && !["SCRIPT", "STYLE", "TEMPLATE"].includes(node.tagName) && isSeen(node)) {
      texts.push([words, parseFloat(getComputedStyle(node).fontSize), contrast(node)]);
    }
  }
  return texts;
}
