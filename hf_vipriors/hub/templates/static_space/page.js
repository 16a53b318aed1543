// Classifies an image in the browser: settings.json says which model on the Hub, and at which commit.

import { Refused, open, resizeAndCrop } from "./preprocessing.js";

const CLASSES_SHOWN = 5;
const part = (id) => document.getElementById(id);
/** A sentence for the visitor, with what was the matter for whoever can mend it. */
const sentence = (text, error) => new Error(text, { cause: error });

let settings; // a promise of settings.json
let classifier; // a promise of the model, made again after it failed
let latest = 0; // number of the image that was chosen last: an older one says nothing any more

async function loadSettings() {
  const reply = await fetch("settings.json");
  if (!reply.ok) throw new Error(`settings.json: ${reply.status}`);
  return reply.json();
}

async function loadClassifier() {
  if (typeof WebAssembly !== "object" || typeof OffscreenCanvas !== "function") {
    throw sentence("This browser cannot run the model: it has no WebAssembly or no OffscreenCanvas. Try a newer one.");
  }
  const { library, model, revision } = await settings;
  let transformers;
  try {
    transformers = await import(library);
  } catch (error) {
    const host = new URL(library).host;
    throw sentence(`The program that runs the model did not come from ${host}. Check the connection and load this page again.`, error);
  }
  const { AutoImageProcessor, AutoModelForImageClassification, RawImage, env, softmax } = transformers;
  env.allowLocalModels = false;
  env.remotePathTemplate = "{model}/resolve/{revision}/onnx/";
  // WebAssembly without WebGPU: half as large, and for networks of this size enough.
  const { wasmPaths } = env.backends.onnx.wasm;
  for (const kind of ["mjs", "wasm"]) wasmPaths[kind] = wasmPaths[kind].replace(".asyncify", "");
  const options = { revision, subfolder: "", dtype: "fp32", device: "wasm", progress_callback: showProgress };
  try {
    const [network, processor] = await Promise.all([
      AutoModelForImageClassification.from_pretrained(model, options),
      AutoImageProcessor.from_pretrained(model, options),
    ]);
    const words = { ...processor.config };
    processor.do_resize = processor.do_center_crop = false; // preprocessing.js does both
    return async (image) => {
      const { width, height } = words.crop_size;
      const pixels = await resizeAndCrop(image, words);
      const { logits } = await network(await processor(new RawImage(pixels, width, height, 3)));
      return Array.from(softmax(logits.data), (score, number) => ({ score, label: network.config.id2label[number] }))
        .sort((one, other) => other.score - one.score)
        .slice(0, CLASSES_SHOWN);
    };
  } catch (error) {
    const denied = [401, 403, 404].includes(error.status);
    throw sentence(
      denied
        ? `The Hub does not give out ${model}: it is private, or no longer there.`
        : `The model ${model} did not come from the Hub, or does not run here. Check the connection and load this page again.`,
      error,
    );
  }
}

function showProgress({ status, file, loaded, total }) {
  if (status === "progress" && total && file.endsWith(".onnx")) part("progress").value = loaded / total;
}

/** Control characters as the signs that Unicode has for them: the name of a class is anybody's text. */
const visible = (name) =>
  name.replace(/[\0-\x1f]/g, (sign) => String.fromCodePoint(0x2400 + sign.codePointAt(0))).replace(/[\x7f\x85\u2028\u2029]/g, "␤");

function showClasses(classes) {
  const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
  part("classes").replaceChildren(
    ...classes.map(({ label, score }) => {
      const row = document.createElement("li");
      const name = document.createElement("bdi");
      const share = document.createElement("b");
      const bar = document.createElement("i");
      name.textContent = visible(label);
      share.textContent = percent.format(score);
      bar.style.setProperty("--share", score);
      bar.setAttribute("aria-hidden", "true");
      row.append(name, share, bar);
      return row;
    }),
  );
}

/** `state`: "wait", "answer" or "refuse". Both places are live: a screen reader reads what comes into them. */
function say(state, text) {
  document.body.dataset.state = state;
  part("status").textContent = state === "refuse" ? "" : text;
  part("error").textContent = state === "refuse" ? text : "";
}

/** Show an image, and what the model says of it. `file` is a Blob, `button` the example that it is. */
async function answer(file, button) {
  const number = ++latest;
  const current = () => number === latest;
  URL.revokeObjectURL(part("image").src);
  part("image").hidden = false;
  part("image").src = URL.createObjectURL(file);
  part("classes").replaceChildren();
  for (const each of document.querySelectorAll("#examples button")) each.ariaPressed = String(each === button);
  say("wait", "Loading the model…");
  let image;
  try {
    image = await open(file);
    classifier ??= loadClassifier();
    const classify = await classifier;
    if (!current()) return;
    say("wait", "Looking at the image…");
    const classes = await classify(image);
    if (!current()) return;
    showClasses(classes);
    say("answer", `Most probable: ${visible(classes[0].label)}`);
  } catch (error) {
    if (!(error instanceof Refused)) {
      classifier = undefined;
      console.error(error);
    }
    if (!current()) return;
    const known = error instanceof Refused || error.cause;
    say("refuse", known ? error.message : `Something went wrong: ${error.message}`);
  } finally {
    image?.close();
  }
}

async function answerExample(button, address) {
  try {
    const reply = await fetch(address);
    if (!reply.ok) throw new Error(`${address}: ${reply.status}`);
    await answer(await reply.blob(), button);
  } catch (error) {
    console.error(error);
    say("refuse", "This example could not be loaded. Check the connection and try again.");
  }
}

function addExample(address, number) {
  const button = document.createElement("button");
  const image = document.createElement("img");
  image.src = address;
  image.alt = `Example ${number + 1}`;
  button.type = "button";
  button.append(image);
  button.addEventListener("click", () => answerExample(button, address));
  part("examples").append(button);
  return button;
}

function takeFile(files) {
  const [file] = files;
  if (file) answer(file, null);
  else say("refuse", "That was no file: save the image first, then drop or choose it here.");
}

function listen() {
  part("file").addEventListener("change", ({ target }) => {
    if (target.files.length) answer(target.files[0], null);
    target.value = ""; // so that the same file can be chosen again
  });
  part("image").addEventListener("error", ({ target }) => (target.hidden = true));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
  document.addEventListener("dragleave", ({ relatedTarget }) => relatedTarget || document.body.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    takeFile(event.dataTransfer.files);
  });
  document.addEventListener("paste", ({ clipboardData }) => {
    if (clipboardData.files.length) answer(clipboardData.files[0], null);
  });
}

async function begin() {
  settings = loadSettings();
  listen();
  try {
    const buttons = (await settings).examples.map(addExample);
    part("ready-made").hidden = !buttons.length;
    // The page opens with an answer, so that its visitors see what to expect.
    buttons[0]?.click();
  } catch (error) {
    console.error(error);
    say("refuse", "The settings of this page could not be loaded. Check the connection and load it again.");
  }
}

begin();
