/** One walk from an image to its cells: `cleft.prediction.model.Model.segment`. */

import { type Image, product } from "./arrays";
import { estimateDiameter } from "./diameter";
import { UserError } from "./errors";
import { intensityLimits } from "./intensity";
import { type Labels, labelImage } from "./labels";
import { type Network, type Seen, classesOf } from "./predictor";
import { type Diameter, Scale, chooseFactors, orDefault } from "./scale";

/** A step of the walk, for people. */
export type Stage = "size" | "network" | "cells";
export type Report = (stage: Stage, done: number, of: number) => void;

export interface Found extends Labels {
  /** The diameter estimated, in pixels; null where none was asked for, or no cell was seen. */
  estimated: number | null;
  factors: number[];
}

export async function segment(
  network: Network,
  image: Image,
  diameter: Diameter,
  report: Report = () => undefined,
  seen?: Seen,
): Promise<Found> {
  const { card } = network;
  if (image.shape.length !== card.axes.length) {
    throw new UserError(
      card.axes === "YX"
        ? "The image is a stack, but the model is one for planes: take a model for stacks, or one plane."
        : "The image is a plane, but the model is one for stacks: take a model for planes.",
    );
  }
  const limits = intensityLimits(image.data, image.shape, card.percentiles, card.noise_floor);
  let estimated: number | null = null;
  if (orDefault(card, diameter) === "auto") {
    report("size", 0, 1);
    estimated = await estimateDiameter(network, image, limits, (done, of) => report("size", done, of));
  }
  const factors = chooseFactors(card, diameter, image.spacing, estimated);
  const scale = new Scale(image.shape, factors.map((f, axis) => f / card.shrink[axis]!));
  const classes = await classesOf(network, image, limits, scale, (done, of) => report("network", done, of), seen);
  report("cells", 0, 1);
  const ratio = product(factors) / product(card.shrink);
  const least = [card.min_size * ratio, card.min_size_at_border * ratio] as const;
  const labels = labelImage(classes, image.shape, image.spacing, least);
  return { ...labels, estimated, factors };
}
