// The pixels that the network reads, as the model's own preprocessing in Python gives them: the shorter side resized
// as Pillow does it, then the centre. transformers.js leaves both to the browser, which skips pixels where an image
// becomes much smaller and mixes neighbours where the centre lies between two: probabilities would differ.

const LONGEST = 100; // times the shorter side: resized for the network, a longer strip would not fit into memory
const BITS = 22; // of the fraction of Pillow's weights
const ROWS_AT_ONCE = 256; // of an image of many megapixels, so that a telephone can hold them

/** There can be no answer; the message is a sentence for the visitor. */
export class Refused extends Error {}

const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

/** By the number that Pillow gives a resampling filter: how far it reaches, and its value there. */
const FILTERS = {
  1: [3, (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0)], // Lanczos
  2: [1, (x) => Math.max(0, 1 - Math.abs(x))], // bilinear
  3: [2, bicubic],
  4: [0.5, (x) => (x > -0.5 && x <= 0.5 ? 1 : 0)], // box
  5: [1, (x) => (Math.abs(x) < 1 ? sinc(x) * (0.54 + 0.46 * Math.cos(Math.PI * x)) : 0)], // Hamming
};

function bicubic(x) {
  const a = -0.5;
  x = Math.abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/** For each new pixel of a line: the first old one that counts, and the weights of it and the next, in 2 ** -22. */
function tapsOf(before, after, resample) {
  const scale = before / after;
  const taps = [];
  if (resample === 0) {
    // Nearest: added up, as Pillow does it, for a product would be rounded otherwise.
    for (let at = scale / 2; taps.length < after; at += scale) {
      taps.push({ first: Math.min(Math.floor(at), before - 1), weights: [2 ** BITS] });
    }
    return taps;
  }
  const [reach, filter] = FILTERS[resample];
  const wider = Math.max(scale, 1); // a filter as wide as the pixels that become one: nothing is skipped
  for (let number = 0; number < after; number++) {
    const centre = (number + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach * wider + 0.5));
    const last = Math.min(before, Math.trunc(centre + reach * wider + 0.5));
    const values = [];
    for (let old = first; old < last; old++) values.push(filter((old - centre + 0.5) * (1 / wider)));
    const sum = values.reduce((total, value) => total + value, 0);
    const whole = (value) => Math.trunc(value * 2 ** BITS + (value < 0 ? -0.5 : 0.5));
    taps.push({ first, weights: values.map((value) => whole(sum === 0 ? value : value / sum)) });
  }
  return taps;
}

/** Python's round(): a half goes to the even number. */
const round = (x) => (x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

/** Of one weighted sum for each new value: the weighted old ones, `stride` apart. */
function weighted(values, offset, stride, weights) {
  let sum = 2 ** (BITS - 1);
  for (let each = 0; each < weights.length; each++) sum += values[offset + each * stride] * weights[each];
  return Math.floor(sum / 2 ** BITS); // a clamped array brings it into 0..255
}

/**
 * Resize the shorter side of an image, then cut the centre.
 *
 * @param image `{width, height, rows}`; `rows(top, count)` gives RGBA values of so many rows, line by line.
 * @param words of preprocessor_config.json: `size.shortest_edge`, `crop_size`, `resample` (Pillow's number).
 * @returns RGB values of the crop, line by line: a Uint8ClampedArray of 3 * width * height.
 */
export async function resizeAndCrop(image, words) {
  const { width, height } = image;
  const short = words.size.shortest_edge;
  const crop = words.crop_size;
  const long = (side, other) => (side <= other ? short : Math.trunc((short * side) / other));
  const size = { width: long(width, height), height: long(height, width) };
  const cut = (before, after, part) => {
    const from = round((after - part) / 2);
    return tapsOf(before, after, words.resample).slice(from, from + part);
  };
  const columns = cut(width, size.width, crop.width);
  const lines = cut(height, size.height, crop.height);
  // Pillow rounds after each of the two directions, so that their order counts; of version 13 it is this one.
  const tall = height > 2 * width && size.height < height;
  return tall ? linesFirst(image, columns, lines) : columnsFirst(image, columns, lines);
}

const begin = (taps) => Math.min(...taps.map(({ first }) => first));
const end = (taps) => Math.max(...taps.map(({ first, weights }) => first + weights.length));

async function columnsFirst({ width, rows }, columns, lines) {
  const [top, bottom] = [begin(lines), end(lines)];
  const stride = 3 * columns.length;
  const narrow = new Uint8ClampedArray((bottom - top) * stride);
  for (let row = top, place = 0; row < bottom; row += ROWS_AT_ONCE) {
    const count = Math.min(ROWS_AT_ONCE, bottom - row);
    const pixels = await rows(row, count);
    for (let line = 0; line < count; line++) {
      for (const { first, weights } of columns) {
        const offset = 4 * (line * width + first);
        for (let channel = 0; channel < 3; channel++) narrow[place++] = weighted(pixels, offset + channel, 4, weights);
      }
    }
  }
  const result = new Uint8ClampedArray(lines.length * stride);
  lines.forEach(({ first, weights }, line) => {
    const offset = (first - top) * stride;
    for (let each = 0; each < stride; each++) {
      result[line * stride + each] = weighted(narrow, offset + each, stride, weights);
    }
  });
  return result;
}

async function linesFirst({ width, rows }, columns, lines) {
  const low = new Uint8ClampedArray(3 * width);
  const result = new Uint8ClampedArray(3 * lines.length * columns.length);
  let place = 0;
  for (const { first, weights } of lines) {
    const pixels = await rows(first, weights.length);
    for (let each = 0; each < low.length; each++) {
      low[each] = weighted(pixels, 4 * Math.trunc(each / 3) + (each % 3), 4 * width, weights);
    }
    for (const tap of columns) {
      for (let channel = 0; channel < 3; channel++) {
        result[place++] = weighted(low, 3 * tap.first + channel, 3, tap.weights);
      }
    }
  }
  return result;
}

/**
 * Open an image file as Pillow does: upright, without colour management, and with the colours of transparent pixels.
 *
 * @param file a Blob.
 * @returns what {@link resizeAndCrop} takes, and `close`.
 * @throws Refused where it is no image, too narrow, or of gray values that a browser would cut to 8 bits.
 */
export async function open(file) {
  const head = new Uint8Array(await file.slice(0, 26).arrayBuffer());
  const png = [0x89, 0x50, 0x4e, 0x47].every((byte, place) => head[place] === byte);
  if (png && head[24] === 16 && [0, 4].includes(head[25])) {
    throw new Refused("This gray image has 16 bits for each pixel: please convert it to 8 bits first.");
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { premultiplyAlpha: "none", colorSpaceConversion: "none" });
  } catch {
    throw new Refused("This file is no image that can be read here: please try a JPEG or a PNG.");
  }
  const { width, height } = bitmap;
  if (Math.max(width, height) > LONGEST * Math.min(width, height)) {
    bitmap.close();
    throw new Refused(`A strip of ${width} x ${height} pixels shows too little: please choose a wider image.`);
  }
  const canvas = new OffscreenCanvas(width, 1);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  let read; // from the second on, where a pixel is transparent
  const rows = (top, count) => {
    if (read) return read(top, count);
    canvas.height = count; // which clears it too
    context.drawImage(bitmap, 0, -top);
    const { data } = context.getImageData(0, 0, width, count);
    if (file.type === "image/jpeg" || isOpaque(data)) return data;
    read = throughWebgl(bitmap);
    return read ? read(top, count) : data;
  };
  return { width, height, rows, close: () => bitmap.close() };
}

function isOpaque(pixels) {
  for (let place = 3; place < pixels.length; place += 4) if (pixels[place] < 255) return false;
  return true;
}

/** Rows in which transparent pixels keep their colour, which a canvas forgets; null where WebGL is missing. */
function throughWebgl(bitmap) {
  const { width, height } = bitmap;
  const gl = new OffscreenCanvas(1, 1).getContext("webgl");
  if (!gl || Math.max(width, height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) return null;
  const texture = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
  if (gl.checkFramebufferStatus(gl.FRAMEBUFFER) !== gl.FRAMEBUFFER_COMPLETE) return null;
  return (top, count) => {
    const data = new Uint8ClampedArray(4 * width * count);
    gl.readPixels(0, top, width, count, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(data.buffer));
    return data;
  };
}
